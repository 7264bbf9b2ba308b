import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.data import image_size as sizes
from semipose.data.image_size import image_size, image_sizes
from tests.tiny import picture


def exif(orientation: int, order: str = "<") -> bytes:
    """A JPEG segment that holds nothing but an orientation."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_the_size_is_height_then_width(tmp_path: Path, suffix: str) -> None:
    assert image_size(str(picture(tmp_path / f"a{suffix}", (30, 50)))) == (30, 50)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_has_the_size_that_decoding_gives(tmp_path: Path, orientation: int, order: str) -> None:
    file = picture(tmp_path / "a.jpg", (30, 50))
    content = file.read_bytes()
    file.write_bytes(content[:2] + exif(orientation, order) + content[2:])
    decoded = cv2.imread(str(file)).shape[:2]
    assert image_size(str(file)) == decoded == ((30, 50) if orientation < 5 else (50, 30))


def test_headers_are_enough_for_jpeg_and_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "decoded_size", lambda file: pytest.fail(f"{file} was decoded"))
    for name in ("a.jpg", "a.png"):
        assert image_size(str(picture(tmp_path / name))) == (48, 64)
    ok, gray = cv2.imencode(".jpg", np.zeros((20, 10), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert ok
    (tmp_path / "gray.jpg").write_bytes(b"\xff\xd8\xff\xff" + gray.tobytes()[3:])  # With a fill byte.
    assert image_size(str(tmp_path / "gray.jpg")) == (20, 10)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8" + exif(1)])
def test_what_is_no_image_has_no_size(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    assert image_size(str(file)) is None
    assert image_sizes([str(file), str(tmp_path / "gone.jpg")]).tolist() == [[0, 0], [0, 0]]
    assert image_sizes([]).shape == (0, 2)


def test_real_headers_agree_with_decoding(data_root: Path) -> None:
    files = sorted((data_root / "mmpose_samples").rglob("*.jpg")) + sorted(
        (data_root / "mmpose_samples").rglob("*.png")
    )
    assert len(files) > 20
    for file in files:
        assert image_size(str(file)) == cv2.imread(str(file)).shape[:2], file
