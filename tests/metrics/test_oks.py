"""OKS, AP and AR against pycocotools, the field's own program."""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from semipose.errors import DataError
from semipose.metrics.average_precision import METRICS
from semipose.metrics.oks import evaluate, oks, read_values, run_evaluator
from semipose.pose.skeleton import PRESETS

SIGMAS = PRESETS["coco_17"].sigmas


def pycocotools_values(truth, results, sigmas):
    with contextlib.redirect_stdout(io.StringIO()):
        base = COCO()
        base.dataset = copy.deepcopy(truth)
        base.createIndex()
        evaluator = COCOeval(base, base.loadRes(copy.deepcopy(results)), "keypoints")
        evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: 100 * value for name, value in zip(METRICS, evaluator.stats, strict=True) if value > -1}


def person(identity, image, points, *, visible=2, crowd=0, area=None, box=(0, 0, 100, 100)):
    flat = [number for x, y in points for number in ((x, y, visible) if visible else (0, 0, 0))]
    return {
        "id": identity,
        "image_id": image,
        "category_id": 1,
        "keypoints": flat,
        "iscrowd": crowd,
        "bbox": list(box),
        "num_keypoints": len(points) if visible else 0,
        "area": box[2] * box[3] if area is None else area,
    }


def result(image, points, score):
    flat = [number for x, y in points for number in (x, y, 1)]
    return {"image_id": image, "category_id": 1, "keypoints": flat, "score": score}


def labels(*people, images=1):
    return {
        "images": [{"id": n + 1} for n in range(images)],
        "annotations": list(people),
        "categories": [{"id": 1, "name": "tool", "keypoints": ["tip", "end"], "skeleton": []}],
    }


HERE, NEAR, FAR = [(10, 10), (90, 90)], [(12, 13), (88, 90)], [(40, 70), (20, 60)]
TWO = [0.05, 0.1]


@pytest.mark.parametrize(
    ("truth", "results"),
    [
        pytest.param(labels(person(1, 1, HERE)), [result(1, NEAR, 0.5)], id="one person"),
        pytest.param(
            labels(person(1, 1, HERE), person(2, 1, FAR, crowd=1)),
            [result(1, HERE, 0.5), result(1, FAR, 0.9), result(1, FAR, 0.8)],
            id="a crowd takes two",
        ),
        pytest.param(
            labels(person(1, 1, HERE), person(2, 1, FAR, visible=0, box=(300, 300, 50, 50))),
            [
                result(1, HERE, 0.5),
                result(1, [(310, 310), (330, 330)], 0.9),
                result(1, [(311, 310), (330, 333)], 0.8),
            ],
            id="a person without points takes one",
        ),
        pytest.param(
            labels(person(1, 1, HERE), person(2, 1, HERE)),
            [result(1, NEAR, 0.5)] * 3,
            id="equal people and scores",
        ),
        pytest.param(
            labels(person(1, 1, HERE), person(2, 2, HERE), images=2),
            [result(2, FAR, 0.5), result(1, HERE, 0.5), result(2, HERE, 0.5), result(1, FAR, 0.5)],
            id="scores equal across images",
        ),
        pytest.param(
            labels(person(1, 1, HERE, area=900.0), person(2, 1, NEAR, area=5000.0)),
            [result(1, HERE, 0.5), result(1, NEAR, 0.6)],
            id="small people count in no size but all",
        ),
        pytest.param(
            labels(*(person(n + 1, 1, HERE) for n in range(25))),
            [result(1, NEAR if n % 3 else FAR, n / 30) for n in range(28)],
            id="more than 20 in an image",
        ),
        pytest.param(labels(person(1, 1, HERE), images=2), [result(2, HERE, 0.5)], id="only in an empty image"),
        pytest.param(
            labels(person(1, 1, HERE)),
            [result(1, NEAR, 0.5) | {"bbox": [0, 0, 10, 10]}],
            id="area of the box",
        ),
    ],
)
def test_awkward_cases_agree_with_pycocotools(truth, results):
    assert evaluate(truth, results, TWO) == pytest.approx(pycocotools_values(truth, results, TWO), abs=1e-9)


@pytest.mark.parametrize("keypoints", [17, 14, 3, 1])
def test_random_crowded_pictures_agree_with_pycocotools_for_any_number_of_keypoints_and_sigmas(coco, keypoints):
    sigmas = np.random.default_rng(keypoints).uniform(0.02, 0.12, keypoints).tolist()
    for seed in range(15):
        truth, results = coco(seed, keypoints=keypoints)
        if results:
            assert evaluate(truth, results, sigmas) == pytest.approx(
                pycocotools_values(truth, results, sigmas), abs=1e-9
            ), seed


def test_larger_sigmas_forgive_more():
    truth, results = labels(person(1, 1, HERE)), [result(1, NEAR, 0.5)]
    assert evaluate(truth, results, [0.02] * 2)["oks_ap"] < evaluate(truth, results, [0.1] * 2)["oks_ap"]


def test_nothing_is_printed_and_the_arguments_stay_as_they_are(coco, capfd, recwarn):
    truth, results = coco(2)
    before = copy.deepcopy((truth, results))
    evaluate(truth, results, SIGMAS)
    assert (truth, results) == before
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_a_person_with_id_0_counts_like_any_other():
    zero, one = labels(person(0, 1, HERE)), labels(person(1, 1, HERE))
    assert evaluate(zero, [result(1, HERE, 0.5)], TWO) == evaluate(one, [result(1, HERE, 0.5)], TWO)


def test_missing_area_and_number_of_keypoints_are_filled_in():
    full = person(1, 1, HERE, area=0.53 * 100 * 100)
    bare = {key: value for key, value in full.items() if key not in ("area", "num_keypoints", "iscrowd")}
    found = evaluate(labels(bare), [result(1, NEAR, 0.5)], TWO)
    assert found == evaluate(labels(full), [result(1, NEAR, 0.5)], TWO)
    assert 0 < found["oks_ap"] < 100


def test_no_results_score_0_and_sizes_without_people_are_absent():
    values = evaluate(labels(person(1, 1, HERE)), [], TWO)
    assert values["oks_ap"] == values["oks_ar"] == values["oks_apl"] == 0
    assert "oks_apm" not in values


@pytest.mark.parametrize(
    ("truth", "results", "said"),
    [
        ({"images": []}, [], "no 'annotations'"),
        (
            labels(person(5, 1, HERE + HERE)),
            [],
            r"annotation 5: 12 keypoint numbers, expected 6",
        ),
        (labels({"id": 7, "image_id": 1}), [], "annotation 7: 0 keypoint numbers"),
        (
            labels(person(1, 1, HERE)),
            [result(4, HERE, 1)],
            r"result 0 \(image 4\): the ground truth has no such image",
        ),
        (labels(person(1, 1, HERE)), [{"image_id": 1, "keypoints": []}], "category_id, score missing"),
        (labels(person(1, 1, HERE)), [result(1, HERE[:1], 1)], "3 keypoint numbers, expected 6"),
    ],
)
def test_faults_are_named(truth, results, said):
    with pytest.raises(DataError, match=said):
        evaluate(truth, results, TWO)


def test_oks_of_arrays_equals_the_evaluators(people):
    predicted, truth = people(30, images=30)
    evaluator = run_evaluator(*jsons(predicted, truth), SIGMAS)
    theirs = [evaluator.ious[image, 1][0, 0] for image in truth.image_ids.tolist()]
    ours = oks(predicted.keypoints, truth.keypoints, truth.visible, SIGMAS, truth.areas)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert read_values(evaluator)["oks_ap"] > 0


def test_oks_is_1_at_the_point_and_falls_to_exp_of_minus_one_eighth_at_sigma_and_is_nan_without_labels():
    truth = np.zeros((3, 1, 2))
    predicted = np.array([[[0, 0]], [[0.1 * 50, 0]], [[0, 0]]])
    found = oks(predicted, truth, [[2], [1], [0]], [0.1], [2500.0] * 3)
    np.testing.assert_allclose(found, [1, np.exp(-1 / 8), np.nan])


def jsons(predicted, truth):
    rows = range(len(truth))
    people = [
        {
            "id": n + 1,
            "image_id": int(truth.image_ids[n]),
            "category_id": 1,
            "area": float(truth.areas[n]),
            "bbox": truth.boxes[n].tolist(),
            "iscrowd": 0,
            "keypoints": np.concatenate([truth.keypoints[n], truth.visible[n][:, None]], 1).ravel().tolist(),
        }
        for n in rows
    ]
    images = [{"id": image} for image in sorted(set(truth.image_ids.tolist()))]
    return {"images": images, "annotations": people, "categories": [{"id": 1}]}, predicted.to_coco_results()
