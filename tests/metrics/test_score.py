"""One score from two sets of poses: its values, what it leaves out, what it says."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from semipose.errors import DataError
from semipose.metrics.pck import box_side, distances, pck
from semipose.metrics.score import Score, score
from semipose.pose.skeleton import PRESETS, Skeleton

PERSON = PRESETS["coco_17"]
KEYS = {
    "pck@0.05",
    "pck@0.1",
    "pck@0.2",
    "pck_torso@0.1",
    "pck_torso@0.2",
    "pixel_error",
    "oks_ap",
    "oks_ap50",
    "oks_ap75",
    "oks_apm",
    "oks_apl",
    "oks_ar",
    "oks_ar50",
    "oks_ar75",
    "oks_arm",
    "oks_arl",
}


def test_every_metric_has_a_value_and_an_interval_around_it(people):
    found = score(*people(noise=12), PERSON)
    assert set(found.values) == set(found.intervals) == KEYS
    for name, (low, high) in found.intervals.items():
        assert low <= found.values[name] <= high, name
    assert found.intervals["pck@0.1"][0] < found.intervals["pck@0.1"][1] - 1
    assert set(found.per_keypoint) == {name for name in KEYS if not name.startswith("oks")}
    assert set(found.per_keypoint["pck@0.1"]) == set(PERSON.keypoints)


def test_perfect_predictions_score_full_marks(people):
    _, truth = people()
    found = score(truth, truth, PERSON, resamples=10)
    assert found.values.pop("pixel_error") == 0
    assert set(found.values.values()) == {100.0}
    assert found.intervals.pop("pixel_error") == (0, 0)
    assert set(found.intervals.values()) == {(100.0, 100.0)}


def test_means_are_over_all_labeled_keypoints(people):
    predicted, truth = people()
    apart = distances(predicted.keypoints, truth.keypoints, truth.visible)
    found = score(predicted, truth, PERSON, resamples=0)
    assert found.values["pixel_error"] == pytest.approx(np.nanmean(apart))
    correct = apart < 0.1 * box_side(truth.boxes)[:, None]
    assert found.values["pck@0.1"] == pytest.approx(100 * correct[truth.visible > 0].mean())
    each = pck(apart, box_side(truth.boxes), 0.1)
    assert list(found.per_keypoint["pck@0.1"].values()) == pytest.approx(each.tolist())
    assert found.intervals == {}


def test_ap_equals_pycocotools_on_the_results_that_are_written(people):
    predicted, truth = people(80)
    annotations = [
        {
            "id": n + 1,
            "image_id": int(truth.image_ids[n]),
            "category_id": 1,
            "iscrowd": 0,
            "keypoints": np.concatenate([truth.keypoints[n], truth.visible[n][:, None]], 1).ravel().tolist(),
            "num_keypoints": 17,
            "bbox": truth.boxes[n].tolist(),
            "area": float(truth.areas[n]),
        }
        for n in range(80)
    ]
    images = [{"id": image} for image in sorted(set(truth.image_ids.tolist()))]
    with contextlib.redirect_stdout(io.StringIO()):
        base = COCO()
        base.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
        base.createIndex()
        evaluator = COCOeval(base, base.loadRes(predicted.to_coco_results()), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    found = score(predicted, truth, PERSON, resamples=0).values
    assert [v for k, v in found.items() if k.startswith("oks")] == pytest.approx((100 * evaluator.stats).tolist())


def test_crowds_and_people_without_labels_are_no_detections_but_regions_to_ignore(people):
    predicted, truth = people()
    whole = score(predicted, truth, PERSON, resamples=0)
    _, first, people_in = np.unique(truth.image_ids, return_index=True, return_counts=True)
    one, two = first[people_in == 1][:2]
    truth.crowd[one], truth.visible[two] = True, 0
    predicted.keypoints[[one, two]] += 1000
    found = score(predicted, truth, PERSON, resamples=20)
    rest = np.delete(np.arange(60), [one, two])
    without = score(predicted[rest], truth[rest], PERSON, resamples=20)
    assert found.values == pytest.approx(without.values)
    assert found.counts == without.counts | {"crowds": 1, "people_without_labels": 1}
    assert found.counts["people"] == whole.counts["people"] - 2
    assert any("not scored: 1 people without a labeled keypoint, 1 crowd regions" in note for note in found.notes)


def test_a_prediction_that_lies_in_a_crowd_is_forgiven(people):
    predicted, truth = people(3, images=1, noise=0)
    truth.visible[0], truth.crowd[0], truth.boxes[0] = 0, True, (0, 0, 700, 700)
    predicted.keypoints[1] = 50 + predicted.keypoints[1][::-1]
    predicted.scores[:], predicted.scores[1] = 0.5, 0.9
    in_crowd = score(predicted, truth, PERSON, resamples=0).values
    no_crowd = score(predicted[1:], truth[1:], PERSON, resamples=0).values
    assert in_crowd["oks_ap"] > no_crowd["oks_ap"]


def test_people_without_a_torso_are_counted_and_left_out_of_pck_by_torso_only(people):
    predicted, truth = people()
    hips = [k for k, name in enumerate(PERSON.keypoints) if name.endswith("hip")]
    truth.visible[:, hips] = 2
    shoulders = [k for k, name in enumerate(PERSON.keypoints) if name.endswith("shoulder")]
    truth.visible[:, shoulders] = 2
    truth.visible[np.ix_(range(10), hips)] = 0
    predicted.keypoints[:10] += 1000
    found = score(predicted, truth, PERSON, resamples=0)
    assert found.counts["people_without_torso"] == 10
    assert found.values["pck_torso@0.2"] == pytest.approx(
        score(predicted[np.arange(10, 60)], truth[np.arange(10, 60)], PERSON, resamples=0).values["pck_torso@0.2"]
    )
    assert any("leaves out 10 of 60 people" in note for note in found.notes)


def test_a_skeleton_without_shoulders_has_no_torso_keys(people):
    tool = Skeleton.from_category({"name": "tool", "keypoints": ["tip", "middle", "end"]})
    predicted, truth = people(keypoints=3)
    found = score(predicted, truth, tool)
    assert set(found.values) == KEYS - {"pck_torso@0.1", "pck_torso@0.2"}
    assert any("pck_torso is left out" in note for note in found.notes)
    assert any("default 0.072" in note for note in found.notes)


def test_a_keypoint_without_labels_is_absent_not_0(people):
    predicted, truth = people()
    truth.visible[:, 4] = 0
    found = score(predicted, truth, PERSON)
    assert all(PERSON.keypoints[4] not in each and len(each) == 16 for each in found.per_keypoint.values())


def test_areas_come_from_the_box_where_none_is_given_and_the_notes_say_so(people):
    predicted, truth = people()
    given = score(predicted, truth, PERSON, resamples=0)
    assert any("OKS areas: as given for 60 people, 0.53 x box for 0" in note for note in given.notes)
    truth.areas[:20] = 0
    truth.areas[20:25] = 0.53 * truth.boxes[20:25, 2] * truth.boxes[20:25, 3]
    found = score(predicted, truth, PERSON, resamples=0)
    assert any("OKS areas: as given for 35 people, 0.53 x box for 25" in note for note in found.notes)
    truth.areas[:20] = 0.53 * truth.boxes[:20, 2] * truth.boxes[:20, 3]
    assert found.values == pytest.approx(score(predicted, truth, PERSON, resamples=0).values, abs=1e-4)
    assert 0 < found.values["oks_ap"] < given.values["oks_ap"]


def test_a_score_survives_json(people):
    found = score(*people(), PERSON, resamples=20)
    read = Score.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert read == found
    assert read.evidence is None


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others(people):
    predicted, truth = people()
    first, again, other = (score(predicted, truth, PERSON, seed=seed) for seed in (0, 0, 1))
    assert first.intervals == again.intervals
    assert first.intervals != other.intervals
    assert first.values == other.values


def broken(predicted, truth):
    predicted.keypoints[2, 0, 0] = np.nan


def swapped(predicted, truth):
    predicted.ids[[0, 1]] = predicted.ids[[1, 0]]


def unlabeled(predicted, truth):
    truth.visible[:] = 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (broken, "1 of 60 people have predicted keypoints that are NaN or infinite .the first: person 1002."),
        (swapped, "row 0: the prediction is of person 1001 .* label of person 1000"),
        (unlabeled, "none of the 60 people has a labeled keypoint"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(people, spoil, said):
    predicted, truth = people()
    spoil(predicted, truth)
    with pytest.raises(DataError, match=said):
        score(predicted, truth, PERSON)


def test_poses_of_another_shape_are_refused(people):
    predicted, truth = people()
    with pytest.raises(DataError, match=r"\(59, 17, 2\), true ones \(60, 17, 2\)"):
        score(predicted[1:], truth, PERSON)
    with pytest.raises(DataError, match="skeleton has 14"):
        score(predicted, truth, PRESETS["lsp_14"])


def test_one_image_has_values_but_no_intervals(people):
    found = score(*people(3, images=1), PERSON)
    assert "pck@0.1" in found.values
    assert found.intervals == {}
    assert not any("intervals" in note for note in found.notes)
