"""Crops: exact maps, anti-aliased, black outside."""

import cv2
import numpy as np
import pytest

from semipose.data.crops import CropFrame, cut, read_image

FRAME = CropFrame((64, 48))


@pytest.mark.parametrize(
    "box", [(40, 30, 20, 60), (40, 30, 90, 20), (-10, -20, 50, 50), (150, 100, 80, 80), (3.3, 7.7, 11.1, 5.5)]
)
def test_the_map_takes_image_pixels_to_crop_pixels(box: tuple[float, ...]) -> None:
    """A ramp tells where each crop pixel came from."""
    y, x = np.mgrid[0:120, 0:160]
    image = np.stack([x, y, np.full_like(x, 255)], -1).astype(np.uint8)
    regions = FRAME.regions(np.array([box], np.float32))
    affine = FRAME.affines(regions)[0]
    crop = cut(image, regions[0], FRAME.crop_size).astype(float)
    assert crop.shape == (*FRAME.crop_size, 3)
    rows, columns = np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]]
    source = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(affine).T
    inside = (source[..., 0] > 1) & (source[..., 0] < 158) & (source[..., 1] > 1) & (source[..., 1] < 118)
    assert inside.any()
    assert np.abs(crop[inside][:, :2] - source[inside][:, :2]).max() < 0.75
    outside = (source[..., 0] < -2) | (source[..., 0] > 161) | (source[..., 1] < -2) | (source[..., 1] > 121)
    assert (crop[outside] == 0).all()


def test_the_boxs_center_is_the_crops_center_and_its_aspect_is_the_inputs() -> None:
    boxes = np.array([[10, 20, 100, 30], [10, 20, 30, 100]], np.float32)
    regions = FRAME.regions(boxes)
    affines = FRAME.affines(regions)
    for box, region, affine in zip(boxes, regions, affines, strict=True):
        center = affine @ [box[0] + box[2] / 2, box[1] + box[3] / 2, 1]
        middle = (np.array(FRAME.crop_size)[::-1] - 1) / 2
        assert np.abs(center[:2] - middle).max() < 1
        assert region[2] / region[3] == pytest.approx(48 / 64, rel=0.02)
        # The box itself, padded, is what the unaugmented view shows.
        assert max(box[2] / 48, box[3] / 64) * 1.25 * 1.5 * 64 == pytest.approx(region[3], abs=1)


def test_a_shrunk_crop_is_anti_aliased() -> None:
    """One-pixel stripes become gray; without a filter they would become other stripes."""
    image = np.zeros((600, 600, 3), np.uint8)
    image[:, ::2] = 255
    region = FRAME.regions(np.array([[50, 50, 200, 250]], np.float32))[0]
    crop = cut(image, region, FRAME.crop_size)
    middle = crop[20:-20, 20:-20].astype(float)
    assert middle.std() < 25
    assert 100 < middle.mean() < 155


def test_an_unreadable_file_gives_none(tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 this is no picture")
    assert read_image(tmp_path / "broken.jpg") is None
    assert read_image(tmp_path / "missing.jpg") is None
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "whole.jpg").write_bytes(whole + b"a video that a phone appended")
    assert read_image(tmp_path / "whole.jpg") is not None
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    assert read_image(tmp_path / "half.jpg") is None
    thumbnail = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    (tmp_path / "half_with_thumbnail.jpg").write_bytes(whole[:2] + thumbnail + whole[2 : len(whole) // 2])
    assert read_image(tmp_path / "half_with_thumbnail.jpg") is None
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8))
    assert read_image(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]
