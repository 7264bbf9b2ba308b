"""Outlines cover the same pixels as in COCO's own tools, and malformed files are refused."""

import json
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as reference

from semipose.data.masks import decompress, read_outline


def filled(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    outline = read_outline(json.dumps(segmentation).encode())
    assert outline is not None
    pixels = np.zeros(size, np.uint8)
    outline.fill(pixels, 1)
    return pixels


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (40, 61), (480, 640)])
def test_run_lengths_are_read_as_cocos_own_tool_writes_them(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size)
    y, x = np.ogrid[: size[0], : size[1]]
    shape = ((y - size[0] / 2) ** 2 + (x - size[1] / 3) ** 2 < min(size) ** 2 / 5) ^ (rng.random(size) < 0.02)
    coded = reference.encode(np.asfortranarray(shape.astype(np.uint8)))
    text = coded["counts"] if isinstance(coded["counts"], str) else coded["counts"].decode()
    np.testing.assert_array_equal(filled({"size": list(size), "counts": text}, size), shape)
    plain = decompress(text).tolist()
    np.testing.assert_array_equal(filled({"size": list(size), "counts": plain}, size), shape)


def test_polygons_are_filled_each_for_itself() -> None:
    square, beside = [2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 20, 8, 20, 20, 8, 20]
    pixels = filled([square, beside], (30, 30))
    assert pixels[10, 10] == 1  # shared by both
    assert pixels[15, 15] == 1
    assert pixels[25, 25] == 0
    coded = reference.frPyObjects([square, beside], 30, 30)
    assert np.abs(pixels.astype(int) - reference.decode(reference.merge(coded))).mean() < 0.05
    assert filled([[-1e9, -1e9, 1e9, -1e9, 1e9, 1e9, -1e9, 1e9]], (5, 5)).all()


def test_an_empty_outline_is_none() -> None:
    assert read_outline(b"[]") is None


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([[1, 2, 3, 4]], "4 numbers; expected x and y of 3"),
        ([[1, 2, 3, 4, 5, 6, 7]], "7 numbers"),
        ([[1, 2, 3, 4, 5, "6"]], "neither polygons nor run lengths"),
        ("text", "neither polygons"),
        ({"size": [4, 4]}, "neither polygons"),
        ({"size": [4, 4], "counts": [3, 14]}, "do not fill its 4x4 pixels"),
        ({"size": [4, 4], "counts": [-1, 17]}, "do not fill"),
        ({"size": [4, 4], "counts": [2**62, 2**62, 2**62, 2**62, 16]}, "do not fill"),
        ({"size": [4, 4], "counts": [2**70]}, "neither polygons nor run lengths"),
        ({"size": [0, 4], "counts": [0]}, "expected the picture's height and width"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "expected the picture's height and width"),
        ({"size": [4, 4], "counts": ""}, "not run lengths in COCO"),
        ({"size": [4, 4], "counts": "\u00e4"}, "not run lengths in COCO"),
        ({"size": [4, 4], "counts": "oooooooooooo0"}, "not run lengths in COCO"),
        ({"size": [4, 4], "counts": "o"}, "not run lengths in COCO"),
        ({"size": [4, 4], "counts": "@1"}, "do not fill"),
    ],
)
def test_what_is_no_outline_is_refused_with_the_reason(segmentation: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_outline(json.dumps(segmentation).encode())


def test_an_outline_of_another_picture_is_refused() -> None:
    outline = read_outline(b'{"size": [4, 6], "counts": [24]}')
    assert outline is not None
    with pytest.raises(ValueError, match="of 6x4, the picture of 4x6 pixels"):
        outline.fill(np.zeros((6, 4), np.uint8), 1)
