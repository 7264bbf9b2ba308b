"""Crops: exact maps, anti-aliased, black outside."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from semipose.crops.crop import CropFrame, cut, read_image

FRAME = CropFrame((64, 48))


def cropped(image: np.ndarray, region: np.ndarray, frame: CropFrame = FRAME) -> np.ndarray:
    crop = np.full((*frame.crop_size, 3), 77, image.dtype)  # as a reused buffer may be
    cut(image, region, crop)
    return crop


def test_the_map_is_exact_wherever_the_image_ends() -> None:
    """Ramps show a shift of a twentieth of a crop pixel; shrunk and enlarged, inside and beyond each border."""
    y, x = np.mgrid[0:220, 0:250]
    image = np.stack([x, y, np.full_like(x, 255)], -1).astype(np.float32)  # bytes would be rounded, with a bias
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(-30, 200, (60, 2)), rng.uniform(15, 140, (60, 2))], 1).astype(np.float32)
    for frame in (FRAME, CropFrame((256, 192))):
        regions = frame.regions(boxes)
        for region, affine in zip(regions, frame.affines(regions), strict=True):
            crop = cropped(image, region, frame).astype(float)
            rows, columns = np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]]
            at_x, at_y = (columns - affine[0, 2]) / affine[0, 0], (rows - affine[1, 2]) / affine[1, 1]
            edge = 1.5 * max(1.0, 1 / affine[0, 0])
            inside = (at_x > edge) & (at_x < 249 - edge) & (at_y > edge) & (at_y < 219 - edge)
            if inside.sum() > 200:
                assert abs(np.mean(crop[inside][:, 0] - at_x[inside])) * affine[0, 0] < 0.05
                assert abs(np.mean(crop[inside][:, 1] - at_y[inside])) * affine[1, 1] < 0.05
            assert np.abs(crop[inside][:, 2] - 255).max() < 0.01
            beyond = (at_x < -edge) | (at_x > 249 + edge) | (at_y < -edge) | (at_y > 219 + edge)
            assert (crop[beyond] == 0).all()


def test_an_image_that_holds_the_region_is_resized_as_a_whole() -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    region = FRAME.regions(np.array([[120, 110, 40, 50]], np.float32))[0]
    x, y, w, h = region.astype(int)
    whole = cv2.resize(image[y : y + h, x : x + w], FRAME.crop_size[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(cropped(image, region), whole)


@pytest.mark.parametrize("box", [(700, 10, 20, 20), (10, -700, 20, 20), (399.6, 10, 1, 500), (-0.4, 0, 0.3, 0.2)])
def test_a_box_beyond_the_image_gives_black(box: tuple[float, ...]) -> None:
    image = np.full((100, 400, 3), 200, np.uint8)
    region = FRAME.regions(np.array([box], np.float32))[0]
    assert cropped(image, region).max() in (0, 200)


@pytest.mark.parametrize(
    "box", [(40, 30, 20, 60), (40, 30, 90, 20), (-10, -20, 50, 50), (150, 100, 80, 80), (3.3, 7.7, 11.1, 5.5)]
)
def test_the_map_takes_image_pixels_to_crop_pixels(box: tuple[float, ...]) -> None:
    """A ramp tells where each crop pixel came from."""
    y, x = np.mgrid[0:120, 0:160]
    image = np.stack([x, y, np.full_like(x, 255)], -1).astype(np.uint8)
    regions = FRAME.regions(np.array([box], np.float32))
    affine = FRAME.affines(regions)[0]
    crop = cropped(image, regions[0]).astype(float)
    assert crop.shape == (*FRAME.crop_size, 3)
    rows, columns = np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]]
    source = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(affine).T
    inside = (source[..., 0] > 1) & (source[..., 0] < 158) & (source[..., 1] > 1) & (source[..., 1] < 118)
    assert inside.any()
    assert np.abs(crop[inside][:, :2] - source[inside][:, :2]).max() < 1.01  # a byte is rounded twice
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
    crop = cropped(image, region)
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


@pytest.mark.parametrize("kind", ["color.jpg", "gray.jpg", "gray.png", "deep.png", "clear.png", "color.bmp"])
def test_every_kind_of_file_becomes_three_colors(tmp_path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 4), np.uint8)
    picture = {"gray": noise[..., 0], "deep": noise[..., :3].astype(np.uint16) * 257, "clear": noise}
    cv2.imwrite(str(tmp_path / kind), picture.get(kind[:-4], noise[..., :3]))
    expected = cv2.imread(str(tmp_path / kind), cv2.IMREAD_COLOR)[..., ::-1]
    found = read_image(tmp_path / kind)
    assert found is not None
    assert found.flags.c_contiguous
    assert np.array_equal(found, expected)


def test_a_file_that_announces_too_many_pixels_gives_none(tmp_path) -> None:
    data = bytearray(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    data[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / "bomb.png").write_bytes(data)
    assert read_image(tmp_path / "bomb.png") is None
