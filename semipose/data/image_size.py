"""The size of an image as it is shown, read from the file's first bytes where its format is JPEG or PNG."""

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

# Start-of-frame markers hold the size; C4, C8 and CC between them are tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ORIENTATION_TAG = 0x0112


def image_sizes(files: Sequence[str]) -> NDArray[np.int64]:
    """(I, 2) heights and widths; 0, 0 where a file cannot be read as an image."""
    with ThreadPoolExecutor(8, "semipose-sizes") as pool:
        sizes = list(pool.map(image_size, files))
    return np.array([size or (0, 0) for size in sizes], np.int64).reshape(-1, 2)


def image_size(file: str) -> tuple[int, int] | None:
    """(H, W) after the turn that a camera noted in EXIF, as decoding applies it; None when it is no image."""
    try:
        with open(file, "rb") as stream:
            size = _from_header(stream)
    except (OSError, struct.error):
        return None
    return size or decoded_size(file)


def _from_header(stream: BinaryIO) -> tuple[int, int] | None:
    start = stream.read(24)
    if start[:8] == b"\x89PNG\r\n\x1a\n" and start[12:16] == b"IHDR":
        width, height = struct.unpack(">II", start[16:24])
        return height, width
    if start[:2] == b"\xff\xd8":
        stream.seek(2)
        return _from_jpeg(stream)
    return None


def _from_jpeg(stream: BinaryIO) -> tuple[int, int] | None:
    turned = False
    while (head := stream.read(4)) and len(head) == 4 and head[0] == 0xFF:
        marker, length = head[1], struct.unpack(">H", head[2:])[0]
        if marker == 0xFF:  # A fill byte: the marker proper starts one byte later.
            stream.seek(-3, 1)
        elif marker in _FRAMES:
            _, height, width = struct.unpack(">BHH", stream.read(5))
            return (width, height) if turned else (height, width)
        elif marker == 0xE1:
            turned = turned or _orientation(stream.read(length - 2)) >= 5
        else:
            stream.seek(length - 2, 1)
    return None


def _orientation(segment: bytes) -> int:
    """EXIF orientation 1..8; from 5 on the image is shown turned by a quarter."""
    if segment[:6] != b"Exif\0\0":
        return 1
    tiff = segment[6:]
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION_TAG:
                return int(value)
    except struct.error:
        return 1  # Broken EXIF is ignored by decoders too.
    return 1


def decoded_size(file: str) -> tuple[int, int] | None:
    """(H, W) of the decoded image, slow but right for every format; None when it cannot be decoded."""
    import cv2

    image = cv2.imread(file, cv2.IMREAD_COLOR)
    return None if image is None else (int(image.shape[0]), int(image.shape[1]))
