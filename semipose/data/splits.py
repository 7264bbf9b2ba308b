"""Who is labeled: split files and held-out validation people. Splits name image ids."""

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
"""Extra fields of an image that say what it was cut from; people of one photo or video stay on one side."""
FEWEST = 40
"""With fewer labeled people nothing is held out: validation would cost more than it tells."""


class Split(NamedTuple):
    """Ids of the labeled and of the unlabeled images, and of the labeled people where these are not all."""

    labeled: Ids
    unlabeled: Ids
    people: Ids | None = None


def load_split(path: str | Path) -> Split:
    """Read {"labeled": [...], "unlabeled": [...]} of image ids and, if it is there, "labeled_people" of annotation ids.

    The British spellings are read too; other keys, such as a seed, are left alone. Raises DataError for ids that are
    no whole numbers, appear twice, or stand on both sides.
    """
    try:
        value = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: the split cannot be read ({error.strerror}). Check --split.") from error
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
    """Raise DataError for ids of a split that the json does not know, or that stand on both sides."""
    for name, ids in (("labeled", labeled), ("unlabeled", unlabeled)):
        unknown = np.setdiff1d(_array(ids), known)
        if len(unknown):
            raise DataError(
                f"the split names {len(unknown)} {name} images that are not in {source}, such as {_some(unknown)}; "
                f"the file knows ids such as {_some(known)}. A split belongs to one json."
            )
    both = np.intersect1d(_array(labeled), _array(unlabeled))
    if len(both):
        raise DataError(f"the split has {len(both)} images on both sides, such as {_some(both)}; expected each once.")


def refuse_unknown_people(people: Collection[int], known: Ids, source: str) -> None:
    """Raise DataError for labeled people of a split that are not in its labeled images."""
    unknown = np.setdiff1d(_array(people), known)
    if len(unknown):
        raise DataError(
            f"the split names {len(unknown)} labeled people that are not in its labeled images of {source}, such as "
            f"{_some(unknown)}; those hold annotations such as {_some(known)}."
        )


def hold_out(
    people: People, share: float = 0.2, minimum: int = 20, seed: int = 0, whole_images: bool = False
) -> tuple[People, People | None]:
    """Split off `share` of the people, at least `minimum`, for validation: (train, val), val None below `FEWEST`.

    Whole images go, and whole photos or videos where `GROUP_FIELDS` tell them, drawn by `seed`. With `whole_images`
    images are counted and not people, and those without people are kept.
    """
    images = np.arange(len(people.images))
    index, take = (images, people.within) if whole_images else (people.image_index, people.select)
    count = len(index)
    if count < FEWEST:
        return people, None
    target = max(minimum, round(share * count))
    for groups in (_image_groups(people), images):
        chosen = _draw(groups[index], target, most=count // 2, seed=seed)
        if chosen.sum() >= min(minimum, target):
            return take(~chosen), take(chosen)
    return people, None


def group_field(people: People) -> str | None:
    """The first of `GROUP_FIELDS` that every image has and that tells at least two groups apart."""
    for name in GROUP_FIELDS:
        values = [repr(extra[name]) for extra in people.images.extra if name in extra]
        if len(values) == len(people.images) and len(set(values)) > 1:
            return name
    return None


def _image_groups(people: People) -> Ids:
    """(I,) which group an image belongs to."""
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
    twice = [one for one, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{path}: {given[0]!r} names {len(twice)} ids twice, such as {_some(twice)}.")
    return _array(ids)


def _array(ids: Collection[int]) -> Ids:
    return np.fromiter(ids, np.int64, len(ids))


def _some(ids: Sequence[int] | Ids) -> str:
    return ", ".join(str(int(one)) for one in ids[:5])


def shuffled(units: Ids, seed: int) -> NDArray[np.int64]:
    """Positions sorted by an order of the units drawn by `seed`; inside a unit they keep their order."""
    names, inverse = np.unique(units, return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names))
    return np.argsort(place[inverse], kind="stable")


def _draw(units: Ids, target: int, most: int, seed: int) -> NDArray[np.bool_]:
    """(N,) true for whole units in random order until `target` rows are drawn, skipping units that exceed `most`."""
    order = shuffled(units, seed)
    chosen = np.zeros(len(units), bool)
    total = 0
    for rows in np.split(order, np.flatnonzero(np.diff(units[order])) + 1):
        if total < target and total + len(rows) <= most:
            chosen[rows] = True
            total += len(rows)
    return chosen
