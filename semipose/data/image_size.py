"""Read the size of an image as displayed; of JPEG and PNG files from the header alone."""

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

# Start-of-frame markers hold the size; C4, C8 and CC between them are tables.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ORIENTATION_TAG = 0x0112


def image_sizes(files: Sequence[str]) -> NDArray[np.int64]:
    """Read heights and widths (I, 2) of image files; 0, 0 for a file that cannot be read."""
    with ThreadPoolExecutor(8, "semipose-sizes") as pool:
        sizes = list(pool.map(image_size, files))
    return np.array([size or (0, 0) for size in sizes], np.int64).reshape(-1, 2)


def image_size(file: str) -> tuple[int, int] | None:
    """Read (H, W) after the rotation in EXIF, which decoding applies; None if the file is no image."""
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
    rotated = False
    while (head := stream.read(4)) and len(head) == 4 and head[0] == 0xFF:
        marker, length = head[1], struct.unpack(">H", head[2:])[0]
        if marker == 0xFF:  # A fill byte: the marker starts one byte later.
            stream.seek(-3, 1)
        elif marker in _FRAME_MARKERS:
            _, height, width = struct.unpack(">BHH", stream.read(5))
            return (width, height) if rotated else (height, width)
        elif marker == 0xE1:
            rotated = rotated or _orientation(stream.read(length - 2)) >= 5
        else:
            stream.seek(length - 2, 1)
    return None


def _orientation(segment: bytes) -> int:
    """Read the EXIF orientation, 1 to 8; from 5 on width and height are exchanged."""
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
        return 1  # Decoders ignore broken EXIF too.
    return 1


def decoded_size(file: str) -> tuple[int, int] | None:
    """Decode the image: for other formats, and JPEG files with an unusual header."""
    import cv2

    image = cv2.imread(file, cv2.IMREAD_COLOR)
    return None if image is None else (int(image.shape[0]), int(image.shape[1]))
