"""COCO json text in, checked arrays out, fast: typed records, and numbers converted all at once.

Whatever is wrong raises `InvalidCoco`; `semipose.formats.coco_errors` then says what, entry by entry.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw
from numpy.typing import NDArray

from semipose.data.masks import Outline, read_outline
from semipose.data.paths import files_inside
from semipose.data.people import Images
from semipose.errors import DataError
from semipose.formats.categories import box_categories, choose_categories

# Converting numbers in pieces keeps the Python floats in between in the processor's cache.
_PIECE = 4096
_NONE = Raw(b"null")
_MISSING = frozenset((b"null", b"[]", b""))
_commas = methodcaller("count", b",")


class ImageRecord(msgspec.Struct, gc=False):
    """An entry of "images": COCO's own fields and the extra ones that are kept."""

    id: int
    file_name: str
    width: int | None = 0
    height: int | None = 0
    group: Any = UNSET
    coco_image_id: Any = UNSET
    video_id: Any = UNSET
    vid_id: Any = UNSET
    frame_id: Any = UNSET
    crop: Any = UNSET
    scale: Any = UNSET
    orig_size: Any = UNSET
    source: Any = UNSET
    all_people_boxed: Any = UNSET
    crowd_known: Any = UNSET
    crowdIndex: float | msgspec.UnsetType | None = UNSET


_EXTRA = ImageRecord.__struct_fields__[4:]


class AnnotationRecord(msgspec.Struct, gc=False):
    """An entry of "annotations"; keypoints and boxes stay text until it is known that they may be read."""

    id: int
    image_id: int
    category_id: int
    keypoints: Raw = _NONE
    bbox: Raw = _NONE
    area: float | None = None
    iscrowd: int | bool | None = 0
    segmentation: Raw = _NONE


class Document(msgspec.Struct):
    """What is read of a COCO json."""

    images: list[ImageRecord]
    annotations: list[AnnotationRecord] | msgspec.UnsetType = UNSET
    categories: list[dict[str, Any]] = []


@dataclass(frozen=True)
class ReadOptions:
    """What is asked of a json: the file, the images' folder, the rule for boxes, and which labels must stay unread."""

    path: Path
    folder: str
    override: Mapping[str, Any]
    boxes: str
    labeled_ids: frozenset[int] | None = None
    """The images whose labels may be read; None for all of them, empty where only boxes are wanted."""
    labeled_people: frozenset[int] | None = None
    """The annotations in these images whose labels may be read; None for all of them."""
    everyone: bool = False
    category_name: str = ""
    """Where only boxes are wanted and no category has keypoints: whose boxes, if there is such a category."""

    @property
    def only_boxes(self) -> bool:
        """Whether no label at all may be read."""
        return self.labeled_ids is not None and not self.labeled_ids

    def blind(self, image_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Where labels must not be read."""
        if self.labeled_ids is None:
            return np.zeros(len(image_ids), bool)
        hidden = np.isin(image_ids, np.fromiter(self.labeled_ids, np.int64), invert=True)
        return np.asarray(hidden, bool)

    def blind_people(self, ids: NDArray[np.int64], blind_image: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where the label of an annotation must not be read; `blind_image` says it of the image each is in."""
        if self.labeled_people is None:
            return blind_image
        return blind_image | np.isin(ids, np.fromiter(self.labeled_people, np.int64), invert=True)

    def reads_box(self, blind: bool) -> bool:
        """Whether the box of an annotation is used."""
        return self.boxes in ("auto", "given") or (blind and self.boxes != "image")

    def categories(self, found: Sequence[Mapping[str, Any]], used: Mapping[int, int]) -> list[Mapping[str, Any]]:
        """The categories to learn or to take boxes of."""
        if self.only_boxes:
            return box_categories(found, self.category_name)
        return choose_categories(found, used, self.override)


class InvalidCoco(Exception):
    """Something is wrong with a json; the slow pass names it."""


@dataclass
class CocoTable:
    """N annotations of the chosen categories; `keypoints` (N, K, 3), `boxes` (N, 4) 0 where not `boxed`.

    Labels of `blind` rows must not be read: their keypoints and areas were not decoded and are 0. All of `blind_images`
    (I,) are, and some in others where only named people are labeled. `outlines`, by id, are those of crowds and of
    people without a labeled keypoint, where `everyone` was asked for.
    """

    images: Images
    categories: list[Mapping[str, Any]]
    ids: NDArray[np.int64]
    image_index: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    blind: NDArray[np.bool_]
    blind_images: NDArray[np.bool_]
    areas: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    boxes: NDArray[np.float64]
    boxed: NDArray[np.bool_]
    outlines: dict[int, Outline]

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(N,) people with at least one labeled keypoint."""
        return np.asarray((self.keypoints[..., 2] > 0).any(1))


def parse_coco(content: bytes, request: ReadOptions) -> CocoTable:
    """Decode and check; raises `InvalidCoco` or a msgspec error."""
    document = msgspec.json.decode(content, type=Document)
    images = _images(document.images, request)
    annotations = document.annotations or []
    _expect(document.annotations is not UNSET or request.only_boxes, "there are no annotations")
    categories = _categories(document.categories, annotations, request)
    every = np.array([one.id for one in annotations], np.int64)
    _expect(_distinct(every), "an annotation id is used twice")
    taken = {one["id"] for one in categories}
    rows = [row for row, one in enumerate(annotations) if not taken or one.category_id in taken]
    index = _positions(np.array([one.image_id for one in annotations], np.int64), images)[rows]
    records = [annotations[row] for row in rows]
    blind_images = request.blind(images.ids)
    blind = request.blind_people(every[rows], blind_images[index])
    crowd = np.array([bool(one.iscrowd) for one in records], bool)
    areas = np.where(blind, 0, np.array([one.area or 0 for one in records], float))
    _expect(bool(np.isfinite(areas).all() and (areas >= 0).all()), "an area is no number of square pixels")
    keypoints = _keypoints(records, blind, _keypoint_count(categories, request))
    posed = (keypoints[..., 2] > 0).any(1)
    wanted = ~crowd & (blind | posed) | request.everyone
    boxes, boxed = _boxes(records, blind, wanted, request)
    ignored = request.everyone & ~blind & (crowd | ~posed)
    outlines = _outlines([records[row] for row in np.flatnonzero(ignored)])
    return CocoTable(
        images, categories, every[rows], index, crowd, blind, blind_images, areas, keypoints, boxes, boxed, outlines
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


def _images(records: Sequence[ImageRecord], request: ReadOptions) -> Images:
    ids = np.array([record.id for record in records], np.int64)
    _expect(_distinct(ids), "an image id is used twice")
    files, faults = files_inside(request.folder, [record.file_name for record in records])
    _expect(not faults, "an image file is missing or outside of the folder")
    sizes = np.array([(one.height or 0, one.width or 0) for one in records], np.int64).reshape(-1, 2)
    _expect(bool((sizes >= 0).all()), "an image has a negative size")
    return Images(tuple(files), ids, sizes, _extra(records))


def _extra(records: Sequence[ImageRecord]) -> tuple[dict[str, Any], ...]:
    columns = {name: list(map(attrgetter(name), records)) for name in _EXTRA}
    present = [name for name, values in columns.items() if values.count(UNSET) < len(values)]
    rows = zip(*(columns[name] for name in present), strict=True) if present else repeat((), len(records))
    return tuple({n: value for n, value in zip(present, row, strict=True) if value is not UNSET} for row in rows)


def _categories(
    categories: Sequence[Mapping[str, Any]], annotations: Sequence[AnnotationRecord], request: ReadOptions
) -> list[Mapping[str, Any]]:
    ids = [one.get("id") for one in categories]
    _expect(all(isinstance(one.get("keypoints", []), list) for one in categories), "keypoints are no list of names")
    _expect(all(type(i) is int for i in ids) and len(set(ids)) == len(ids), "a category has no id of its own")
    known = set(ids)
    used = Counter(one.category_id for one in annotations if bytes(one.keypoints) not in _MISSING)
    unknown = any(one.category_id not in known for one in annotations)
    _expect(not unknown or request.only_boxes, "a category_id is unknown")
    try:
        return request.categories(categories, used)
    except DataError as error:
        raise InvalidCoco(str(error)) from error


def _positions(image_ids: NDArray[np.int64], images: Images) -> NDArray[np.int64]:
    if len(image_ids) == 0:
        return image_ids
    _expect(len(images) > 0, "there are no images")
    order = np.argsort(images.ids)
    at = np.minimum(np.searchsorted(images.ids[order], image_ids), len(order) - 1)
    index = order[at]
    _expect(bool((images.ids[index] == image_ids).all()), "an image_id is unknown")
    return index


def _keypoint_count(categories: list[Mapping[str, Any]], request: ReadOptions) -> int:
    if request.only_boxes:
        return 0
    return len(categories[0].get("keypoints") or request.override.get("keypoints") or ())


def _keypoints(records: Sequence[AnnotationRecord], blind: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    texts = [_NONE if hidden else one.keypoints for one, hidden in zip(records, blind.tolist(), strict=True)]
    numbers, _ = _numbers(texts, 3 * count)
    keypoints = numbers.reshape(len(records), count, 3)
    visible = np.ascontiguousarray(keypoints[..., 2])
    _expect(bool(((visible == 0) | (visible == 1) | (visible == 2)).all()), "a visibility is not 0, 1 or 2")
    # Tools write anything where nothing is labeled.
    np.copyto(keypoints[..., :2], 0, where=(visible == 0)[..., None])
    return keypoints


def _boxes(
    records: Sequence[AnnotationRecord], blind: NDArray[np.bool_], wanted: NDArray[np.bool_], request: ReadOptions
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    use = wanted & np.array([request.reads_box(False), request.reads_box(True)])[blind.astype(int)]
    boxes, boxed = _numbers([one.bbox if used else _NONE for one, used in zip(records, use.tolist(), strict=True)], 4)
    _expect(bool((boxes[boxed, 2:] > 0).all()), "a box has no area")
    _expect(bool(boxed[wanted].all()) or request.boxes != "given", "a box is missing")
    return boxes, boxed


def _numbers(texts: Sequence[Raw], width: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Lists of `width` numbers each, as (N, width) with 0 where there is none; and (N,) where there is one."""
    lists = [bytes(text) for text in texts]
    present = np.array([text not in _MISSING for text in lists], bool)
    values = np.zeros((len(lists), width))
    rows = np.flatnonzero(present)
    for piece in np.split(rows, range(_PIECE, len(rows), _PIECE)) if len(rows) else ():
        values[piece] = _flat([lists[row] for row in piece], width)
    _expect(bool(np.isfinite(values).all()), "a number is infinite")
    return values, present


def _flat(lists: Sequence[bytes], width: int) -> NDArray[np.float64]:
    # One list of numbers decodes several times faster than a list of lists; the brackets are checked by hand.
    text = b",".join(lists)
    plain = text.count(b"[") == len(lists) and set(map(_commas, lists)) == {width - 1}
    _expect(plain, f"a list does not have {width} numbers")
    numbers = msgspec.json.decode(b"[" + text.translate(None, b"[]") + b"]", type=list[float])
    return np.fromiter(numbers, np.float64, len(numbers)).reshape(-1, width)
