"""Published and recorded values on the real evaluation material."""

import json
from pathlib import Path

import numpy as np
import pytest

from semipose.metrics.oks import evaluate
from semipose.metrics.pck import distances, head_size, pck, within
from semipose.pose.skeleton import PRESETS

SETS = {
    "val2017_part_synthetic": ("coco_val2017_part_gt.json", "coco_val2017_part_synthetic_results.json"),
    "fakekeypoints100": ("coco_fakekeypoints100_gt.json", "coco_fakekeypoints100_results.json"),
}


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SETS)
def test_ap_and_ar_equal_those_of_pycocotools(data_root, name):
    truth, results = (read(data_root / "eval" / file) for file in SETS[name])
    reference = read(data_root / "eval" / "coco_reference_ap.json")[name]
    values = evaluate(truth, results, PRESETS["coco_17"].sigmas)
    assert len(values) == len(reference) == 10
    for key, expected in reference.items():
        assert values[f"oks_{key.lower()}"] == pytest.approx(100 * expected, abs=1e-9), key


@pytest.mark.parametrize("fraction", [0.5, 0.1])
def test_pckh_equals_that_of_mpii(data_root, fraction):
    with np.load(data_root / "eval" / "mpii_valid_gt_and_predictions.npz") as data:
        apart, heads = distances(data["pred"], data["gt"], ~data["missing"]), head_size(data["headboxes"])
        names = data["joint_names"].tolist()
    reference = read(data_root / "eval" / "mpii_reference_pckh.json")[f"PCKh@{fraction}"]
    # The reference is rounded to four digits.
    assert dict(zip(names, pck(apart, heads, fraction), strict=True)) == pytest.approx(reference["per_joint"], abs=6e-5)
    usable = [name not in ("pelv", "thor") for name in names]
    # Over all labeled keypoints, so a joint that is labeled more often weighs more.
    mean = 100 * np.nanmean(within(apart, heads, fraction)[:, usable])
    assert mean == pytest.approx(reference["mean_without_pelvis_thorax"], abs=6e-5)
