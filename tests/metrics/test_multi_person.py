"""People found in whole images: against pycocotools, the crowd mode of faster-coco-eval, and a slow evaluator."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from semipose.errors import DataError
from semipose.metrics.intervals import difference
from semipose.metrics.multi_person import precision_and_recall, score_multi_person
from semipose.pose.crowding import CROWDING_LIMITS
from semipose.pose.poses import Poses
from semipose.pose.skeleton import PRESETS, Skeleton

PERSON, CROWD = PRESETS["coco_17"], PRESETS["crowdpose_14"]
NAMES = ["ap", "ap50", "ap75", "apm", "apl", "ar", "ar50", "ar75", "arm", "arl"]


def as_poses(truth, results, keypoints):
    """True and found people of a COCO json and its results."""
    there, found = Poses.blank(len(truth["annotations"]), keypoints), Poses.blank(len(results), keypoints)
    for people, records in ((there, truth["annotations"]), (found, results)):
        for row, record in enumerate(records):
            flat = np.array(record["keypoints"]).reshape(-1, 3)
            people.keypoints[row], people.image_ids[row] = flat[:, :2], record["image_id"]
            people.ids[row] = row + 1
            if people is there:
                people.visible[row], people.boxes[row] = flat[:, 2], record["bbox"]
                people.areas[row], people.crowd[row] = record.get("area", 0), record["iscrowd"]
            else:
                people.box_scores[row] = record["score"]
    return found, there


def images_of(truth):
    return [image["id"] for image in truth["images"]]


def without_areas(truth, seed=0):
    """As CrowdPose's json: no areas, and an index of each image."""
    chance = np.random.default_rng(seed)
    images = [
        image | {"crowdIndex": float(chance.choice([0.05, 0.15, 0.2, 0.5, 0.8, 2.0]))} for image in truth["images"]
    ]
    people = [{key: value for key, value in person.items() if key != "area"} for person in truth["annotations"]]
    return truth | {"images": images, "annotations": people}


def by_pycocotools(truth, results, sigmas):
    with contextlib.redirect_stdout(io.StringIO()):
        base = COCO()
        base.dataset = json.loads(json.dumps(truth))
        base.createIndex()
        evaluator = COCOeval(base, base.loadRes(json.loads(json.dumps(results))), "keypoints")
        evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {f"oks_{name}": 100 * value for name, value in zip(NAMES, evaluator.stats, strict=True) if value > -1}


def by_crowd_mode(truth, results, sigmas, folder: Path):
    """AP, AP50, AP75, AR, AR50, AR75, then AP of easy, medium and hard images, rounded; -1 where there is nobody."""
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster

    file = folder / "truth.json"
    file.write_text(json.dumps(truth), "utf-8")
    base = FasterCOCO(str(file), print_function=lambda *_: None)
    evaluator = COCOeval_faster(
        base,
        base.loadRes(json.loads(json.dumps(results))),
        "keypoints_crowd",
        use_area=False,
        kpt_oks_sigmas=list(sigmas),
        print_function=lambda *_: None,
    )
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return [100 * value for value in evaluator.stats]


def similarity(person, found, sigmas):
    """OKS of one found person with one true one, keypoint by keypoint, as CrowdPose: 0.53 of the box is the area."""
    x, y, w, h = person["bbox"]
    total, count = 0.0, 0
    labeled = [v > 0 for v in person["keypoints"][2::3]]
    for k, sigma in enumerate(sigmas):
        px, py = found["keypoints"][3 * k : 3 * k + 2]
        if any(labeled):
            if not labeled[k]:
                continue
            dx, dy = px - person["keypoints"][3 * k], py - person["keypoints"][3 * k + 1]
        else:
            dx = max(0, x - w - px) + max(0, px - x - 2 * w)
            dy = max(0, y - h - py) + max(0, py - y - 2 * h)
        count += 1
        total += np.exp(-(dx**2 + dy**2) / (2 * sigma) ** 2 / (0.53 * w * h + np.spacing(1)) / 2)
    return total / count


def slow(truth, results, sigmas, chosen):
    """AP and AR (0..100) over the images `chosen`, each person and each threshold on its own."""
    precisions, recalls = [], []
    for threshold in np.linspace(0.5, 0.95, 10):
        marks, people_there = [], 0
        for image in sorted(chosen):
            people = [p for p in truth["annotations"] if p["image_id"] == image]
            ignored = [bool(p["iscrowd"]) or not any(p["keypoints"][2::3]) for p in people]
            people_there += ignored.count(False)
            found = sorted((r for r in results if r["image_id"] == image), key=lambda r: -r["score"])[:20]
            taken = set()
            for one in found:
                best, match = min(threshold, 1 - 1e-10), None
                # Those who count first; someone to ignore only where nobody of them is near enough.
                for wanted in (False, True):
                    for g, person in enumerate(people):
                        if ignored[g] is not wanted or (g in taken and not person["iscrowd"]):
                            continue
                        near = similarity(person, one, sigmas)
                        if near >= best:
                            best, match = near, g
                    if match is not None:
                        break
                if match is not None:
                    taken.add(match)
                if match is None or not ignored[match]:
                    marks.append((one["score"], match is not None))
        if not people_there:
            return -1, -1
        order = sorted(range(len(marks)), key=lambda n: (-marks[n][0], n))
        hits = np.cumsum([marks[n][1] for n in order]) if order else np.zeros(0)
        curve = [(h / people_there, h / (n + 1)) for n, h in enumerate(hits)]
        levels = [max((p for r, p in curve if r >= level), default=0) for level in np.linspace(0, 1, 101)]
        precisions.append(np.mean(levels))
        recalls.append(hits[-1] / people_there if len(hits) else 0)
    return 100 * np.mean(precisions), 100 * np.mean(recalls)


def with_scores_apart(results):
    return [result | {"score": result["score"] + 1e-5 * n} for n, result in enumerate(results)]


def test_values_equal_those_of_pycocotools_with_crowds_ties_and_empty_images(coco):
    for seed in range(12):
        truth, results = coco(seed, images=8)
        found = score_multi_person(*as_poses(truth, results, 17), PERSON, images_of(truth), resamples=0)
        assert found.values == pytest.approx(by_pycocotools(truth, results, PERSON.sigmas), abs=1e-9), seed


@pytest.mark.parametrize("limits", [CROWDING_LIMITS, (0.1, 0.8)])
def test_crowded_images_equal_the_crowd_mode_and_a_slow_evaluator(coco, tmp_path, limits):
    for seed in range(6):
        truth, results = coco(seed, images=20, keypoints=14)
        truth = without_areas(truth, seed)
        index = [image["crowdIndex"] for image in truth["images"]]
        predicted, there = as_poses(truth, results, 14)
        found = score_multi_person(
            predicted, there, CROWD, images_of(truth), crowd_index=index, limits=limits, resamples=0
        ).values
        names = ["oks_ap", "oks_ap50", "oks_ap75", "oks_ar", "oks_ar50", "oks_ar75"]
        theirs = by_crowd_mode(truth, results, CROWD.sigmas, tmp_path)
        assert [found[name] for name in names] == pytest.approx(theirs[:6], abs=1e-9)
        bounds = [(-np.inf, limits[0]), (limits[0], limits[1]), (limits[1], np.inf)]
        for name, (low, high), rounded in zip(("easy", "medium", "hard"), bounds, theirs[6:], strict=True):
            chosen = [image["id"] for image in truth["images"] if low <= image["crowdIndex"] < high]
            expected = slow(truth, results, CROWD.sigmas, chosen)[0]
            assert found.get(f"oks_ap_{name}", -1) == pytest.approx(expected, abs=1e-6)
            if limits == CROWDING_LIMITS and rounded >= 0:
                assert found[f"oks_ap_{name}"] == pytest.approx(rounded, abs=0.0051)
        ap, ar = slow(truth, results, CROWD.sigmas, images_of(truth))
        assert (found["oks_ap"], found["oks_ar"]) == pytest.approx((ap, ar), abs=1e-6)


def test_perfect_detections_score_full_marks(coco):
    truth, _ = coco(2, images=10, keypoints=14)
    _, there = as_poses(without_areas(truth), [], 14)
    labeled = there[~there.crowd & (there.visible > 0).any(1)]
    found = score_multi_person(labeled, there, CROWD, images_of(truth), crowd_index=[0.0, 0.5] * 5, resamples=0)
    assert set(found.values.values()) == {100.0}
    assert {"oks_ap_easy", "oks_ap_medium"} < found.values.keys()


def test_images_in_another_order_and_their_indices_stay_together(coco):
    truth, results = coco(3, images=12, keypoints=14)
    truth = without_areas(truth)
    predicted, there = as_poses(truth, results, 14)
    images, index = np.array(images_of(truth)), np.array([image["crowdIndex"] for image in truth["images"]])
    turned = np.random.default_rng(0).permutation(len(images))
    one = score_multi_person(predicted, there, CROWD, images, crowd_index=index, resamples=0)
    other = score_multi_person(predicted, there, CROWD, images[turned], crowd_index=index[turned], resamples=0)
    assert one.values == other.values
    assert {"oks_ap_easy", "oks_ap_medium", "oks_ap_hard"} <= one.values.keys()
    assert len({one.values[f"oks_ap_{name}"] for name in ("easy", "medium", "hard")}) == 3


def test_detections_in_empty_images_cost_precision(coco):
    truth, results = coco(4, images=8)
    predicted, there = as_poses(truth, results, 17)
    images = images_of(truth)
    ghosts = predicted[np.arange(5)]
    ghosts.image_ids[:], ghosts.box_scores[:] = 99, 2.0
    fewer = score_multi_person(Poses.concatenate([predicted, ghosts]), there, PERSON, [*images, 99], resamples=0)
    assert (
        fewer.values["oks_ap"]
        < score_multi_person(predicted, there, PERSON, [*images, 99], resamples=0).values["oks_ap"]
    )
    assert fewer.counts["images"] == 9


def test_every_value_has_an_interval_and_a_difference_is_paired(people):
    predicted, truth = people(150, images=60, noise=8)
    worse = people(150, images=60, noise=14)[0]
    rng = np.random.default_rng(0)
    for found in (predicted, worse):
        found.box_scores = rng.uniform(0.3, 1, 150).astype(np.float32)
    images = np.unique(truth.image_ids)
    index = rng.uniform(0, 1.2, len(images))
    a, b = (score_multi_person(found, truth, PERSON, images, crowd_index=index) for found in (predicted, worse))
    assert {"oks_ap", "oks_arl", "oks_ap_easy", "oks_ap_medium", "oks_ap_hard"} <= a.values.keys()
    for name, value in a.values.items():
        low, high = a.intervals[name]
        # Interpolated precision lies a little higher in resamples.
        assert low - 1 <= value <= high + 1, name
        assert low < high
        gain = difference(a, b, name, resamples=300)
        assert gain.value == pytest.approx(value - b.values[name], abs=1e-9)
        assert gain.helped == "yes"
    with pytest.raises(DataError, match="paired comparison"):
        difference(a, score_multi_person(worse, truth, PERSON, [*images, 9999], resamples=0), "oks_ap")


def test_counts_and_notes_say_what_was_scored(coco):
    truth, results = coco(1, images=8, keypoints=14)
    truth = without_areas(truth)
    predicted, there = as_poses(truth, results, 14)
    index = [image["crowdIndex"] for image in truth["images"]]
    found = score_multi_person(predicted, there, CROWD, images_of(truth), crowd_index=index, resamples=20)
    labeled = (there.visible > 0).any(1)
    scored = labeled & ~there.crowd
    assert found.counts == {
        "people": int(scored.sum()),
        "keypoints": int((there.visible[scored] > 0).sum()),
        "images": 8,
        "detected": len(results),
        "people_without_labels": int((~labeled & ~there.crowd).sum()),
        "crowds": int(there.crowd.sum()),
    }
    text = "\n".join(found.notes)
    for said in ("CrowdPose-14 preset", "for 0 people, 0.53 x box for", "20 highest scored", "ignored regions"):
        assert said in text
    assert "parted at 0.2 and 0.8" in text
    assert "bootstrap over 8 images, 20 resamples" in text


def test_images_without_an_index_belong_to_no_class(people):
    predicted, truth = people()
    images = np.unique(truth.image_ids)
    index = np.where(np.arange(len(images)) < 20, 0.0, np.nan)
    found = score_multi_person(predicted, truth, PERSON, images, crowd_index=index, resamples=0)
    assert "oks_ap_easy" in found.values
    assert not {"oks_ap_medium", "oks_ap_hard"} & found.values.keys()


def square(x: float, image: int, skeleton: Skeleton = PERSON) -> Poses:
    """A person whose keypoints all stand at (x, 50)."""
    person = Poses.blank(1, len(skeleton))
    person.keypoints[:], person.visible[:], person.boxes[:], person.image_ids[:] = (
        (x, 50),
        2,
        (x - 50, 0, 100, 100),
        image,
    )
    return person


def test_precision_and_recall_count_hits_among_detections_and_people():
    truth = Poses.concatenate([square(100, 1), square(400, 1), square(100, 2), square(100, 3)])
    crowd, blank = square(700, 1), square(700, 2)
    crowd.crowd[:], blank.visible[:] = True, 0
    truth = Poses.concatenate([truth, crowd, blank])
    found = Poses.concatenate(
        [
            square(101, 1),
            square(101, 1),
            square(300, 1),
            square(399, 1),  # right, twice, far, right
            square(700, 1),
            square(705, 1),
            square(700, 2),  # on the crowd and on whom nobody labeled: neither
            square(100, 4),  # where nobody is
        ]
    )
    precision, recall = precision_and_recall(found, truth, PERSON, [1, 2, 3, 4])
    assert (precision, recall) == pytest.approx((100 * 2 / 5, 100 * 2 / 4))


def test_precision_without_detections_and_recall_without_people_are_nan():
    nobody, somebody = Poses.empty(17), square(100, 1)
    assert np.isnan(precision_and_recall(nobody, somebody, PERSON, [1])[0])
    assert precision_and_recall(nobody, somebody, PERSON, [1])[1] == 0
    precision, recall = precision_and_recall(somebody, nobody, PERSON, [1])
    assert precision == 0
    assert np.isnan(recall)
    assert np.isnan(precision_and_recall(nobody, nobody, PERSON, [1])).all()


def test_faults_are_named(people):
    predicted, truth = people()
    images = np.unique(truth.image_ids)
    with pytest.raises(DataError, match="true people are in image 100, which is not among the 39"):
        score_multi_person(predicted[:0], truth, PERSON, images[1:])
    stray = predicted[[0]]
    stray.image_ids[:] = 7
    with pytest.raises(DataError, match="predicted people are in image 7"):
        score_multi_person(stray, truth, PERSON, images)
    with pytest.raises(DataError, match="have 17 keypoints; expected the skeleton's 14"):
        score_multi_person(predicted, truth, CROWD, images)
    broken = predicted[[0, 1, 2]]
    broken.box_scores[1] = np.nan
    with pytest.raises(DataError, match="1 of 3 detected people have keypoints or scores that are NaN"):
        score_multi_person(broken, truth, PERSON, images)
    truth.visible[:] = 0
    with pytest.raises(DataError, match="there is nothing to score"):
        score_multi_person(predicted, truth, PERSON, images)
