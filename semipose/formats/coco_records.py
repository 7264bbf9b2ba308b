"""Parse COCO json into a checked `LabelTable`, fast: typed records, and all numbers converted together.

Any fault raises `InvalidCoco`; `semipose.formats.coco_errors` then reports it by entry.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import attrgetter, methodcaller
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw
from numpy.typing import NDArray

from semipose.data.masks import Outline, read_outline
from semipose.data.paths import files_inside
from semipose.data.people import Images
from semipose.errors import DataError
from semipose.formats.categories import learned_categories
from semipose.formats.label_format import LabelTable, ReadOptions

# Lists converted at a time: few enough for the intermediate Python floats to stay in the processor's cache.
_CHUNK = 4096
_NONE = Raw(b"null")
_MISSING = frozenset((b"null", b"[]", b""))
_commas = methodcaller("count", b",")


class ImageRecord(msgspec.Struct, gc=False):
    """An entry of "images": COCO's own fields and the extra ones that semipose uses."""

    id: int
    file_name: str
    width: int | None = 0
    height: int | None = 0
    group: Any = UNSET
    coco_image_id: Any = UNSET
    video_id: Any = UNSET
    vid_id: Any = UNSET
    all_people_boxed: Any = UNSET
    crowdIndex: float | msgspec.UnsetType | None = UNSET


_EXTRA = ImageRecord.__struct_fields__[4:]


class AnnotationRecord(msgspec.Struct, gc=False):
    """An entry of "annotations"; keypoints and boxes stay text, as hidden ones are never decoded."""

    id: int
    image_id: int
    category_id: int
    keypoints: Raw = _NONE
    bbox: Raw = _NONE
    area: float | None = None
    iscrowd: int | bool | None = 0
    segmentation: Raw = _NONE


class Document(msgspec.Struct):
    """The parts of a COCO json that are read."""

    images: list[ImageRecord]
    annotations: list[AnnotationRecord] | msgspec.UnsetType = UNSET
    categories: list[dict[str, Any]] = []


class InvalidCoco(Exception):
    """A json has a fault; the slow pass finds out which."""


def parse_coco(content: bytes, options: ReadOptions) -> LabelTable:
    """Decode and check a json; raises `InvalidCoco` or a msgspec error."""
    document = msgspec.json.decode(content, type=Document)
    images = _images(document.images, options)
    annotations = document.annotations or []
    _expect(document.annotations is not UNSET or options.only_boxes, "there are no annotations")
    categories = _categories(document.categories, annotations, options)
    all_ids = np.array([one.id for one in annotations], np.int64)
    _expect(_distinct(all_ids), "an annotation id is used twice")
    chosen = {one["id"] for one in categories}
    rows = [row for row, one in enumerate(annotations) if not chosen or one.category_id in chosen]
    index = _positions(np.array([one.image_id for one in annotations], np.int64), images)[rows]
    records = [annotations[row] for row in rows]
    hidden_images = options.hidden_images(images.ids)
    hidden = options.hidden_people(all_ids[rows], hidden_images[index])
    crowd = np.array([bool(one.iscrowd) for one in records], bool)
    areas = np.where(hidden, 0, np.array([one.area or 0 for one in records], float))
    _expect(bool(np.isfinite(areas).all() and (areas >= 0).all()), "an area is not a number of square pixels")
    keypoints = _keypoints(records, hidden, _keypoint_count(categories, options))
    posed = (keypoints[..., 2] > 0).any(1)
    wanted = ~crowd & (hidden | posed) | options.include_ignored
    boxes, boxed = _boxes(records, hidden, wanted, options)
    ignored = options.include_ignored & ~hidden & (crowd | ~posed)
    outlines = _outlines([records[row] for row in np.flatnonzero(ignored)])
    return LabelTable(
        images=images,
        categories=categories,
        ids=all_ids[rows],
        image_index=index,
        crowd=crowd,
        hidden=hidden,
        hidden_images=hidden_images,
        areas=areas,
        keypoints=keypoints,
        boxes=boxes,
        boxed=boxed,
        outlines=outlines,
    )


def _outlines(records: Sequence[AnnotationRecord]) -> dict[int, Outline]:
    try:
        read = {
            one.id: read_outline(bytes(one.segmentation)) for one in records if bytes(one.segmentation) not in _MISSING
        }
    except ValueError as error:
        raise InvalidCoco(str(error)) from error
    return {id: outline for id, outline in read.items() if outline is not None}


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise InvalidCoco(what)


def _distinct(ids: NDArray[np.int64]) -> bool:
    ordered = np.sort(ids)
    return bool((ordered[1:] != ordered[:-1]).all())


def _images(records: Sequence[ImageRecord], options: ReadOptions) -> Images:
    ids = np.array([record.id for record in records], np.int64)
    _expect(_distinct(ids), "an image id is used twice")
    files, faults = files_inside(options.folder, [record.file_name for record in records])
    _expect(not faults, "an image file is missing or outside the folder")
    sizes = np.array([(one.height or 0, one.width or 0) for one in records], np.int64).reshape(-1, 2)
    _expect(bool((sizes >= 0).all()), "an image has a negative size")
    return Images(tuple(files), ids, sizes, _extra(records))


def _extra(records: Sequence[ImageRecord]) -> tuple[dict[str, Any], ...]:
    columns = {name: list(map(attrgetter(name), records)) for name in _EXTRA}
    present = [name for name, values in columns.items() if values.count(UNSET) < len(values)]
    rows = zip(*(columns[name] for name in present), strict=True) if present else repeat((), len(records))
    return tuple({n: value for n, value in zip(present, row, strict=True) if value is not UNSET} for row in rows)


def _categories(
    categories: Sequence[Mapping[str, Any]], annotations: Sequence[AnnotationRecord], options: ReadOptions
) -> list[Mapping[str, Any]]:
    ids = [one.get("id") for one in categories]
    _expect(all(isinstance(one.get("keypoints", []), list) for one in categories), "keypoints are not a list of names")
    _expect(all(type(i) is int for i in ids) and len(set(ids)) == len(ids), "a category has no id of its own")
    known = set(ids)
    used = Counter(one.category_id for one in annotations if bytes(one.keypoints) not in _MISSING)
    unknown = any(one.category_id not in known for one in annotations)
    _expect(not unknown or options.only_boxes, "a category_id is unknown")
    try:
        return learned_categories(categories, used, options)
    except DataError as error:
        raise InvalidCoco(str(error)) from error


def _positions(image_ids: NDArray[np.int64], images: Images) -> NDArray[np.int64]:
    if len(image_ids) == 0:
        return image_ids
    _expect(len(images) > 0, "there are no images")
    order = np.argsort(images.ids)
    nearest = np.minimum(np.searchsorted(images.ids[order], image_ids), len(order) - 1)
    index = order[nearest]
    _expect(bool((images.ids[index] == image_ids).all()), "an image_id is unknown")
    return index


def _keypoint_count(categories: list[Mapping[str, Any]], options: ReadOptions) -> int:
    if options.only_boxes:
        return 0
    return len(categories[0].get("keypoints") or options.override.get("keypoints") or ())


def _keypoints(records: Sequence[AnnotationRecord], hidden: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    texts = [_NONE if skip else one.keypoints for one, skip in zip(records, hidden.tolist(), strict=True)]
    numbers, _ = _numbers(texts, 3 * count)
    keypoints = numbers.reshape(len(records), count, 3)
    visible = np.ascontiguousarray(keypoints[..., 2])
    _expect(bool(((visible == 0) | (visible == 1) | (visible == 2)).all()), "a visibility is not 0, 1 or 2")
    # Tools write anything where no keypoint is labeled.
    np.copyto(keypoints[..., :2], 0, where=(visible == 0)[..., None])
    return keypoints


def _boxes(
    records: Sequence[AnnotationRecord], hidden: NDArray[np.bool_], wanted: NDArray[np.bool_], options: ReadOptions
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    use = wanted & np.array([options.reads_box(False), options.reads_box(True)])[hidden.astype(int)]
    boxes, boxed = _numbers([one.bbox if used else _NONE for one, used in zip(records, use.tolist(), strict=True)], 4)
    _expect(bool((boxes[boxed, 2:] > 0).all()), "a box has no area")
    _expect(bool(boxed[wanted].all()) or options.boxes != "given", "a box is missing")
    return boxes, boxed


def _numbers(texts: Sequence[Raw], width: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Convert lists of `width` numbers to (N, width), 0 where a list is missing; and (N,) true where it is not."""
    lists = [bytes(text) for text in texts]
    present = np.array([text not in _MISSING for text in lists], bool)
    values = np.zeros((len(lists), width))
    rows = np.flatnonzero(present)
    for chunk in np.split(rows, range(_CHUNK, len(rows), _CHUNK)) if len(rows) else ():
        values[chunk] = _flat([lists[row] for row in chunk], width)
    _expect(bool(np.isfinite(values).all()), "a number is infinite")
    return values, present


def _flat(lists: Sequence[bytes], width: int) -> NDArray[np.float64]:
    # One list of numbers decodes several times faster than a list of lists; the brackets are checked by hand.
    text = b",".join(lists)
    plain = text.count(b"[") == len(lists) and set(map(_commas, lists)) == {width - 1}
    _expect(plain, f"a list does not have {width} numbers")
    numbers = msgspec.json.decode(b"[" + text.translate(None, b"[]") + b"]", type=list[float])
    return np.fromiter(numbers, np.float64, len(numbers)).reshape(-1, width)
