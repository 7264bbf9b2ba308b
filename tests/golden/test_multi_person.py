"""Reference values of people found in whole images: COCO's files, OKS by sigmas, and CrowdPose where its file is."""

import json
from pathlib import Path

import numpy as np
import pytest

from semipose.metrics.multi_person import score_multi_person
from semipose.metrics.oks import evaluate, oks
from semipose.pose.poses import Poses
from semipose.pose.skeleton import PRESETS
from tests.golden.test_reference_ap import SETS, read
from tests.metrics.test_multi_person import as_poses, images_of

COCO, CROWD, FISHEYE = PRESETS["coco_17"], PRESETS["crowdpose_14"], PRESETS["wepdtof_14"]


@pytest.mark.parametrize("name", SETS)
def test_detections_in_cocos_images_score_as_pycocotools_says(data_root: Path, name: str) -> None:
    truth, results = (read(data_root / "eval" / file) for file in SETS[name])
    reference = read(data_root / "eval" / "coco_reference_ap.json")[name]
    found = score_multi_person(*as_poses(truth, results, 17), COCO, images_of(truth), resamples=0)
    for key, expected in reference.items():
        # Poses are float32: a similarity that is all but a threshold may fall to its other side.
        assert found.values[f"oks_{key.lower()}"] == pytest.approx(100 * expected, abs=0.01), key


@pytest.mark.parametrize(
    ("skeleton", "shift", "area", "expected"),
    [
        (COCO, (3, 4), 10000, 0.8711550),
        (CROWD, (3, 4), 0.53 * 100 * 100, 0.9104448),
        (CROWD, (3, 4), 10000, 0.9513838),
        (FISHEYE, (3, 4), 0.53 * 100 * 100, 0.8401836),
        (COCO, (10, 0), 10000, 0.6469947),
        (COCO, (0, 0), 10000, 1.0),
    ],
)
def test_oks_of_a_person_whose_keypoints_are_all_displaced(skeleton, shift, area, expected) -> None:
    there = np.random.default_rng(0).uniform(0, 100, (1, len(skeleton), 2))
    found = oks(there + np.array(shift), there, np.full(there.shape[:2], 2), skeleton.sigmas, [area])
    assert found[0] == pytest.approx(expected, abs=1e-7)


def test_oks_of_a_nose_alone() -> None:
    assert oks([[[10, 0]]], [[[0, 0]]], [[2]], COCO.sigmas[:1], [10000])[0] == pytest.approx(0.1573768, abs=1e-7)


def crowdpose(data_root: Path) -> dict:
    path = data_root / "eval" / "crowdpose_val.json"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {path.parent}")
    return json.loads(path.read_text(encoding="utf-8"))


def jittered(truth: dict, noise: float, chance: np.random.RandomState) -> list[dict]:
    """Every labeled person found, off by `noise` of the square root of 0.53 of the box."""
    results = []
    for person in truth["annotations"]:
        if person["iscrowd"] or not person["num_keypoints"]:
            continue
        flat = np.array(person["keypoints"], dtype=np.float64).reshape(14, 3)
        flat[:, :2] += chance.randn(14, 2) * noise * np.sqrt(0.53 * person["bbox"][2] * person["bbox"][3])
        score = float(chance.rand())
        results.append(
            {"image_id": person["image_id"], "category_id": 1, "keypoints": flat.ravel().tolist(), "score": score}
        )
    return results


def test_crowdposes_images_by_class_and_values_by_its_own_tool(data_root: Path) -> None:
    truth = crowdpose(data_root)
    index = np.array([image["crowdIndex"] for image in truth["images"]])
    chance = np.random.RandomState(0)
    expected = {
        0.0: dict.fromkeys(("ap", "ap50", "ap75", "ar", "ap_easy", "ap_medium", "ap_hard"), 1.0),
        0.05: {
            "ap": 0.8332,
            "ap50": 0.99,
            "ap75": 0.9889,
            "ar": 0.8677,
            "ap_easy": 0.8331,
            "ap_medium": 0.8337,
            "ap_hard": 0.8319,
        },
        0.1: {
            "ap": 0.4094,
            "ap50": 0.9828,
            "ap75": 0.1155,
            "ar": 0.4847,
            "ap_easy": 0.4194,
            "ap_medium": 0.4069,
            "ap_hard": 0.4107,
        },
    }
    for noise, values in expected.items():
        results = jittered(truth, noise, chance)
        predicted, there = as_poses(truth, results, 14)
        found = score_multi_person(predicted, there, CROWD, images_of(truth), crowd_index=index, resamples=0)
        assert "411 easy, 1240 medium, 349 hard" in "\n".join(found.notes)
        for name, value in values.items():
            assert found.values[f"oks_{name}"] == pytest.approx(100 * value, abs=0.011), (noise, name)
        assert evaluate(truth, results, CROWD.sigmas)["oks_ap"] == pytest.approx(100 * values["ap"], abs=0.0051)
    other = score_multi_person(
        Poses.empty(14), there, CROWD, images_of(truth), crowd_index=index, limits=(0.1, 0.8), resamples=0
    )
    assert "192 easy, 1459 medium, 349 hard" in "\n".join(other.notes)
