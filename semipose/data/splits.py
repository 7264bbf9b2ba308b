"""Read split files, which name image ids, and hold out validation people."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semipose.data.people import People
from semipose.errors import DataError

Ids = NDArray[np.int64]

GROUP_FIELDS = ("group", "coco_image_id", "video_id", "vid_id")
"""Image fields that name the source of an image; a split keeps all people of one photo or video together."""
MIN_LABELED_FOR_VAL = 40
"""With fewer labeled people none are held out: the labels are worth more for training."""


class Split(NamedTuple):
    """Ids of labeled images, unlabeled images, and, if not all people are labeled, the labeled people."""

    labeled: Ids
    unlabeled: Ids
    people: Ids | None = None


def load_split(path: str | Path) -> Split:
    """Read {"labeled": [...], "unlabeled": [...]} of image ids, optionally with "labeled_people" of annotation ids.

    British spellings are read too, other keys, such as a seed, are ignored. Raises DataError for ids that are not whole
    numbers, appear twice, or are both labeled and unlabeled.
    """
    try:
        value = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: the split file cannot be read ({error.strerror}). Check --split.") from error
    except ValueError as error:
        raise DataError(f"{path}: not json ({error}); expected a split file.") from error
    if not isinstance(value, dict):
        raise DataError(f'{path}: found {type(value).__name__}; expected {{"labeled": [ids], "unlabeled": [ids]}}.')
    labeled, unlabeled = _ids(path, value, "labeled"), _ids(path, value, "unlabeled")
    both = np.intersect1d(labeled, unlabeled)
    if len(both):
        raise DataError(
            f"{path}: {len(both)} images are both labeled and unlabeled, such as {_some(both)}; expected each once."
        )
    if len(labeled) == 0:
        raise DataError(f"{path}: no image is labeled; expected at least one id under 'labeled'.")
    people = _ids(path, value, "labeled_people") if {"labeled_people", "labelled_people"} & set(value) else None
    return Split(labeled, unlabeled, people)


def refuse_unknown(labeled: Collection[int], unlabeled: Collection[int], known: Ids, source: str) -> None:
    """Raise DataError for ids of a split that are not `known`, or both labeled and unlabeled."""
    for name, ids in (("labeled", labeled), ("unlabeled", unlabeled)):
        unknown = np.setdiff1d(_array(ids), known)
        if len(unknown):
            raise DataError(
                f"the split names {len(unknown)} {name} images that are not in {source}, such as {_some(unknown)}; "
                f"its ids are such as {_some(known)}. A split belongs to one label file."
            )
    both = np.intersect1d(_array(labeled), _array(unlabeled))
    if len(both):
        raise DataError(
            f"{len(both)} images are labeled and unlabeled in the split, such as {_some(both)}; expected each once."
        )


def refuse_unknown_people(people: Collection[int], known: Ids, source: str) -> None:
    """Raise DataError for labeled people of a split that are not `known` from its labeled images."""
    unknown = np.setdiff1d(_array(people), known)
    if len(unknown):
        raise DataError(
            f"the split names {len(unknown)} labeled people that are not in its labeled images of {source}, such as "
            f"{_some(unknown)}; those hold annotations such as {_some(known)}."
        )


def hold_out(
    people: People, share: float = 0.2, minimum: int = 20, seed: int = 0, whole_images: bool = False
) -> tuple[People, People | None]:
    """Split off `share` of the people, at least `minimum`, for validation: (train, val).

    Whole images are drawn by `seed`; whole photos or videos if `group_field` finds such groups. val is None with fewer
    than `MIN_LABELED_FOR_VAL` people, or if one group holds too many of them. `whole_images` counts images instead of
    people and keeps images without people.
    """
    images = np.arange(len(people.images))
    index, select = (images, people.within) if whole_images else (people.image_index, people.select)
    count = len(index)
    if count < MIN_LABELED_FOR_VAL:
        return people, None
    target = max(minimum, round(share * count))
    for groups in (_image_groups(people), images):
        chosen = _draw(groups[index], target, maximum=count // 2, seed=seed)
        if chosen.sum() >= min(minimum, target):
            return select(~chosen), select(chosen)
    return people, None


def group_field(people: People) -> str | None:
    """Return the first of `GROUP_FIELDS` that every image has and that has at least two values."""
    for name in GROUP_FIELDS:
        values = [repr(extra[name]) for extra in people.images.extra if name in extra]
        if len(values) == len(people.images) and len(set(values)) > 1:
            return name
    return None


def _image_groups(people: People) -> Ids:
    """Number the group of each image: (I,)."""
    name = group_field(people)
    if name is None:
        return np.arange(len(people.images))
    values = np.array([repr(extra[name]) for extra in people.images.extra])
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _ids(path: str | Path, value: dict[str, Any], name: str) -> Ids:
    spellings = (name, name.replace("labeled", "labelled"))
    given = [key for key in spellings if key in value]
    if len(given) != 1:
        found = "both spellings of it" if given else f"the keys {', '.join(value) or 'none'}"
        raise DataError(f"{path}: found {found}; expected one list {name!r} of ids.")
    ids = value[given[0]]
    wrong = [one for one in ids if type(one) is not int] if isinstance(ids, list) else [ids]
    if wrong:
        raise DataError(f"{path}: {given[0]!r} holds {wrong[0]!r}; expected a list of ids (whole numbers).")
    repeated = [one for one, count in Counter(ids).items() if count > 1]
    if repeated:
        raise DataError(f"{path}: {given[0]!r} names {len(repeated)} ids twice, such as {_some(repeated)}.")
    return _array(ids)


def _array(ids: Collection[int]) -> Ids:
    return np.fromiter(ids, np.int64, len(ids))


def _some(ids: Sequence[int] | Ids) -> str:
    return ", ".join(str(int(one)) for one in ids[:5])


def shuffled(units: Ids, seed: int) -> NDArray[np.int64]:
    """Return positions sorted by a random order of the units; inside a unit they keep their order."""
    names, inverse = np.unique(units, return_inverse=True)
    position = np.random.default_rng(seed).permutation(len(names))
    return np.argsort(position[inverse], kind="stable")


def _draw(units: Ids, target: int, maximum: int, seed: int) -> NDArray[np.bool_]:
    """Draw whole units, skipping those that would exceed `maximum`, until `target` rows are drawn: (N,) bool."""
    order = shuffled(units, seed)
    chosen = np.zeros(len(units), bool)
    total = 0
    for rows in np.split(order, np.flatnonzero(np.diff(units[order])) + 1):
        if total < target and total + len(rows) <= maximum:
            chosen[rows] = True
            total += len(rows)
    return chosen
