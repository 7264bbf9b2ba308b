"""Read COCO keypoint json."""

import json
from pathlib import Path
from typing import Any

import msgspec

from semipose.data.people import ListedImage
from semipose.errors import DataError
from semipose.formats.coco_errors import explain_errors, without_labels
from semipose.formats.coco_records import InvalidCoco, parse_coco
from semipose.formats.label_format import LabelFormat, LabelTable, ReadOptions

# OverflowError is for ids beyond 64 bits.
_INVALID = (msgspec.MsgspecError, InvalidCoco, OverflowError)
_SHOWN_APART = ("id", "file_name", "width", "height")


class _Listing(msgspec.Struct):
    images: list[dict[str, Any]]


class Coco(LabelFormat):
    """COCO keypoint json: {"images": [...], "annotations": [...], "categories": [...]}.

    A fast pass parses the file; only where that fails a slow one looks for everything that is wrong.
    """

    expected = "a COCO keypoint json"

    def recognizes(self, path: Path) -> bool:
        """Every .json, also a missing one."""
        return path.suffix.lower() == ".json"

    def list_images(self, path: Path) -> list[ListedImage]:
        """The entries of "images", with all their fields."""
        try:
            images = msgspec.json.decode(path.read_bytes(), type=_Listing).images
        except msgspec.MsgspecError as error:
            raise DataError(f"{path}: {error}; expected {self.expected}.") from error
        for row, one in enumerate(images):
            if type(one.get("id")) is not int or not isinstance(one.get("file_name"), str):
                raise DataError(f"{path}: image number {row} lacks a whole number as 'id' or a text as 'file_name'.")
        return [
            ListedImage(
                one["id"], one["file_name"], {key: value for key, value in one.items() if key not in _SHOWN_APART}
            )
            for one in images
        ]

    def to_coco(self, options: ReadOptions) -> dict[str, Any]:
        """The whole content, with all fields."""
        content: dict[str, Any] = json.loads(options.path.read_bytes())
        return content

    def read(self, options: ReadOptions) -> LabelTable:
        """The file's arrays. Faults in hidden labels are no faults: their text is never decoded."""
        content = options.path.read_bytes()
        try:
            return parse_coco(content, options)
        except (*_INVALID, RecursionError) as reason:
            explain_errors(content, options)
            # Nothing is wrong outside of hidden labels, so the file is sound without them.
            try:
                return parse_coco(without_labels(content, options), options)
            except _INVALID:
                raise DataError(f"{options.path}: {reason}; expected {self.expected}.") from reason
