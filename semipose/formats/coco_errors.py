"""Explain the faults of a COCO json, entry by entry. Slow and thorough: only called when the fast pass fails."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from semipose.data.masks import read_outline
from semipose.data.paths import files_inside
from semipose.errors import DataError
from semipose.formats.categories import learned_categories
from semipose.formats.label_format import ReadOptions, raise_faults

_CVAT = "; if it came from CVAT, draw a skeleton rather than points and export 'COCO Keypoints 1.0'"
_MAX_NUMBER = 1e300
_FIELDS_OF_HIDDEN = ("id", "image_id", "category_id", "bbox", "iscrowd")


def explain_errors(content: bytes, options: ReadOptions) -> None:
    """Raise DataError with every fault of the json; return if there is none outside of hidden labels."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{options.path}: not json ({error}); expected a COCO keypoint json.") from error
    try:
        faults = ErrorCollector(document, options).faults
    except DataError as error:
        raise DataError(f"{options.path}: {error}") from error
    raise_faults(options.path, faults)


def without_labels(content: bytes, options: ReadOptions) -> bytes:
    """Return the json without hidden labels: their annotations keep only ids and boxes."""
    document = json.loads(content)
    document["annotations"] = [
        {key: one[key] for key in _FIELDS_OF_HIDDEN if key in one} if _is_hidden(one, options) else one
        for one in document.get("annotations", [])
    ]
    return msgspec.json.encode(document)


def _is_hidden(annotation: Any, options: ReadOptions) -> bool:
    if options.labeled_ids is None or not isinstance(annotation, dict):
        return False
    image = annotation.get("image_id")
    if not (_is_whole(image) and image in options.labeled_ids):
        return True
    person = annotation.get("id")
    return options.labeled_people is not None and not (_is_whole(person) and person in options.labeled_people)


class ErrorCollector:
    """Check a parsed json and collect a message per fault in `faults`."""

    def __init__(self, document: Any, options: ReadOptions) -> None:
        self.options = options
        self.faults: list[str] = []
        if not isinstance(document, dict):
            self.faults.append(f"found {_kind(document)}; expected an object with images, annotations and categories")
            return
        images = self._objects(document, "images", required=True)
        annotations = self._objects(document, "annotations", required=not options.only_boxes)
        categories = self._objects(document, "categories", required=not options.only_boxes)
        self.image_ids = self._collect_ids(images, "image")
        self.category_ids = self._collect_ids(categories, "category")
        self._collect_ids(annotations, "annotation")
        self._check_images(images)
        if self._categories_are_sound(categories):
            self._check_annotations(annotations, categories)

    def _objects(self, document: dict[str, Any], key: str, required: bool) -> list[dict[str, Any]]:
        """Return the objects of a list; other elements are reported and dropped."""
        value = document.get(key, None if required else [])
        if not isinstance(value, list):
            self.faults.append(f"'{key}' is {_kind(value)}; expected a list of objects")
            return []
        for row, one in enumerate(value):
            if not isinstance(one, dict):
                self.faults.append(f"{key}[{row}] is {_kind(one)}; expected an object")
        return [one for one in value if isinstance(one, dict)]

    def _collect_ids(self, entries: list[dict[str, Any]], kind: str) -> set[int]:
        """Return all whole-number ids; others and repeated ones are reported."""
        counts = Counter(one.get("id") for one in entries if _is_whole(one.get("id")))
        for row, one in enumerate(entries):
            if not _is_whole(one.get("id")):
                self.faults.append(f"{kind} number {row}: 'id' is {_kind(one.get('id'))}; expected a whole number")
        for i, count in counts.items():
            if count > 1:
                self.faults.append(f"{kind} {i}: this id is used {count} times; expected once")
        return {i for i in counts if i is not None}

    def _check_images(self, images: list[dict[str, Any]]) -> None:
        named = [one for one in images if isinstance(one.get("file_name"), str)]
        for one in images:
            if not isinstance(one.get("file_name"), str):
                self.faults.append(
                    f"image {one.get('id')}: 'file_name' is {_kind(one.get('file_name'))}; expected text"
                )
            for side in ("width", "height"):
                if one.get(side) is not None and not (_is_whole(one[side]) and one[side] >= 0):
                    self.faults.append(f"image {one.get('id')}: '{side}' is {one[side]!r}; expected whole pixels")
        _, faults = files_inside(self.options.folder, [one["file_name"] for one in named])
        self.faults += [f"image {named[row].get('id')}: {fault}" for row, fault in sorted(faults.items())]

    def _categories_are_sound(self, categories: list[dict[str, Any]]) -> bool:
        """Whether the categories are sound enough to check annotations against them."""
        wrong = [one for one in categories if not isinstance(one.get("keypoints", []), list)]
        for one in wrong:
            self.faults.append(f"category {one.get('id')}: 'keypoints' is {_kind(one['keypoints'])}; expected names")
        return not wrong and len(self.category_ids) == len(categories)

    def _check_annotations(self, annotations: list[dict[str, Any]], categories: list[dict[str, Any]]) -> None:
        used: Counter[Any] = Counter(
            one["category_id"] for one in annotations if one.get("keypoints") and _is_whole(one.get("category_id"))
        )
        chosen = learned_categories(categories, used, self.options)
        names = {one["id"]: one.get("keypoints") or self.options.override.get("keypoints") or [] for one in chosen}
        for row, one in enumerate(annotations):
            where = f"annotation {one['id']}" if "id" in one else f"annotation number {row}"
            faults = list(self._annotation_faults(one, names))
            self.faults += [f"{where}: {fault}" for fault in faults]

    def _annotation_faults(self, one: dict[str, Any], names: dict[Any, list[str]]) -> Iterable[str]:
        image, category = one.get("image_id"), one.get("category_id")
        if not _is_whole(image) or image not in self.image_ids:
            yield f"image_id {image!r} is not an image of this file"
        known = _is_whole(category) and category in self.category_ids
        if not known and not (self.options.only_boxes and _is_whole(category)):
            yield f"category_id {category!r} is not a category of this file"
        if one.get("iscrowd") not in (0, 1, None):
            yield f"'iscrowd' is {one['iscrowd']!r}; expected 0 or 1"
        if not _is_whole(category) or (names and category not in names):
            return
        hidden = _is_hidden(one, self.options)
        faults = [] if hidden else list(_keypoint_faults(one.get("keypoints"), len(names[category])))
        yield from faults
        if not hidden:
            yield from _area_faults(one.get("area"))
        has_label = hidden or bool(faults) or any((one.get("keypoints") or [])[2::3])
        ignored = not hidden and (one.get("iscrowd") or not has_label)
        if self.options.include_ignored and ignored and one.get("segmentation"):
            yield from _outline_faults(one["segmentation"])
        wanted = (has_label and not one.get("iscrowd")) or self.options.include_ignored
        if wanted and self.options.reads_box(hidden):
            yield from self._box_faults(one.get("bbox"))

    def _box_faults(self, box: Any) -> Iterable[str]:
        if box is None or box == []:
            if self.options.boxes == "given":
                yield "there is no 'bbox'; expected one, or the rule auto, which encloses the keypoints"
        elif not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            yield f"'bbox' is {_shorten(box)}; expected [x, y, width, height] as numbers"
        elif box[2] <= 0 or box[3] <= 0:
            yield f"'bbox' {box} has no area; expected a width and a height above 0, or no bbox at all"


def _keypoint_faults(keypoints: Any, count: int) -> Iterable[str]:
    if keypoints is None or keypoints == []:
        return
    if not isinstance(keypoints, list):
        yield f"'keypoints' is {_kind(keypoints)}; expected a list of {3 * count} numbers"
        return
    if len(keypoints) != 3 * count:
        yield (
            f"'keypoints' has {len(keypoints)} numbers; expected {3 * count}: x, y and visibility of each of the "
            f"{count} keypoints that the category names{_CVAT}"
        )
    for row, value in enumerate(keypoints):
        if not _is_number(value):
            yield f"'keypoints'[{row}] is {_shorten(value)}; expected a finite number"
        elif row % 3 == 2 and value not in (0, 1, 2):
            yield f"'keypoints'[{row}] is {value}; a visibility is 0 (not labeled), 1 (occluded) or 2 (visible)"


def _area_faults(area: Any) -> Iterable[str]:
    if area is not None and not (_is_number(area) and area >= 0):
        yield f"'area' is {_shorten(area)}; expected square pixels"


def _outline_faults(segmentation: Any) -> Iterable[str]:
    try:
        read_outline(json.dumps(segmentation).encode())
    except ValueError as error:
        yield str(error)


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    # Compared, not converted: a whole number in a json can be too large for a float. NaN compares false.
    return type(value) in (int, float) and abs(value) < _MAX_NUMBER


def _kind(value: Any) -> str:
    """Describe a json value in words."""
    if value is None:
        return "missing"
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return f"{names[type(value)]} ({_shorten(value)})"


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
