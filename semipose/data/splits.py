"""Who is labeled: split files, held-out validation people, and new nested splits. Splits name image ids."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semipose.data.boxes import box_areas
from semipose.data.people import People
from semipose.errors import DataError, UsageError
from semipose.poses import Poses

Ids = NDArray[np.int64]

GROUP_FIELDS = ("group", "coco_image_id", "video_id", "vid_id")
"""Extra fields of an image that say what it was cut from; people of one photo or video stay on one side."""
FEWEST = 40
"""With fewer labeled people nothing is held out: validation would cost more than it tells."""


def load_split(path: str | Path) -> tuple[Ids, Ids]:
    """The ids of the labeled and of the unlabeled images of {"labeled": [...], "unlabeled": [...]}.

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
    return labeled, unlabeled


def apply_split(people: People, labeled: Collection[int], unlabeled: Collection[int]) -> tuple[People, People]:
    """The people of the labeled images, and those of the unlabeled ones with their labels dropped.

    In the second part keypoints, scores and `visible` are 0 and areas come from the boxes: nothing of a label is
    left of them. `semipose.load(split=...)` goes further: there labels do not choose the people and boxes either.
    """
    refuse_unknown(labeled, unlabeled, people.images.ids, people.source)
    ids = people.images.ids[people.image_index]
    first = people.select(np.isin(ids, _array(labeled)) & (people.poses.visible > 0).any(1))
    if len(first) == 0:
        raise DataError(f"none of the {len(labeled)} labeled images of the split has a labeled person.")
    return first, _without_labels(people.select(np.isin(ids, _array(unlabeled))))


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


def hold_out(people: People, share: float = 0.2, minimum: int = 20, seed: int = 0) -> tuple[People, People | None]:
    """Split off `share` of the people, at least `minimum`, for validation: (train, val), val None below `FEWEST`.

    Whole images go, and whole photos or videos where `GROUP_FIELDS` tell them, drawn by `seed`.
    """
    count = len(people)
    if count < FEWEST:
        return people, None
    target = max(minimum, round(share * count))
    for groups in (group_keys(people), people.image_index):
        chosen = _draw(groups, target, most=count // 2, seed=seed)
        if chosen.sum() >= min(minimum, target):
            return people.select(~chosen), people.select(chosen)
    return people, None


def group_field(people: People) -> str | None:
    """The first of `GROUP_FIELDS` that every image has and that tells at least two groups apart."""
    for name in GROUP_FIELDS:
        values = [repr(extra[name]) for extra in people.images.extra if name in extra]
        if len(values) == len(people.images) and len(set(values)) > 1:
            return name
    return None


def group_keys(people: People) -> Ids:
    """(N,) which group a person belongs to: images of one `group_field` together, else each image alone."""
    name = group_field(people)
    if name is None:
        return people.image_index
    values = np.array([repr(extra[name]) for extra in people.images.extra])
    first = np.unique(values, return_index=True, return_inverse=True)[2]
    return first[people.image_index].astype(np.int64)


def make_split(
    people: People,
    labeled: int | float,
    by: Literal["image", "person", "group"] = "image",
    seed: int = 0,
) -> dict[str, Any]:
    """A split in which `labeled` images, people or groups keep their labels: a number, or a share below 1.

    The order is drawn once by `seed` and cut, so that with one seed a smaller split is part of a larger one. By
    person, whole images are taken until the number is reached; by group, whole groups (photos, videos) until that
    many images are. Images without a labeled person are unlabeled.
    """
    if by not in ("image", "person", "group"):
        raise UsageError(f"--by is {by!r}; expected image, person or group.")
    others = np.setdiff1d(people.images.ids, people.images.ids[people.image_index])
    people = people.select(np.argsort(people.images.ids[people.image_index], kind="stable"))
    ids, persons = np.unique(people.images.ids[people.image_index], return_counts=True)
    units = np.arange(len(ids))
    if by == "group":
        if group_field(people) is None:
            raise UsageError(f"--by group: not every image has one of {', '.join(GROUP_FIELDS)}; use --by image.")
        units = group_keys(people)[np.cumsum(persons) - persons]
    weight = persons if by == "person" else np.ones(len(ids), np.int64)
    wanted = _wanted(labeled, int(weight.sum()), by)
    order = _shuffled(units, seed)
    before = np.cumsum(weight[order]) - weight[order]
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    unit_before = np.repeat(before[starts], np.diff([*starts, len(order)]))
    taken = ids[order[unit_before < wanted]]
    return {
        "labeled": sorted(taken.tolist()),
        "unlabeled": sorted([*np.setdiff1d(ids, taken).tolist(), *others.tolist()]),
        "seed": seed,
        "by": by,
    }


def _ids(path: str | Path, value: dict[str, Any], name: str) -> Ids:
    spellings = (name, name.replace("labeled", "labelled"))
    given = [key for key in spellings if key in value]
    if len(given) != 1:
        found = "both spellings of it" if given else f"the keys {', '.join(value) or 'none'}"
        raise DataError(f"{path}: found {found}; expected one list {name!r} of image ids.")
    ids = value[given[0]]
    wrong = [one for one in ids if type(one) is not int] if isinstance(ids, list) else [ids]
    if wrong:
        raise DataError(f"{path}: {given[0]!r} holds {wrong[0]!r}; expected a list of image ids (whole numbers).")
    twice = [one for one, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{path}: {given[0]!r} names {len(twice)} images twice, such as {_some(twice)}.")
    return _array(ids)


def _array(ids: Collection[int]) -> Ids:
    return np.fromiter(ids, np.int64, len(ids))


def _some(ids: Sequence[int] | Ids) -> str:
    return ", ".join(str(int(one)) for one in ids[:5])


def _without_labels(people: People) -> People:
    poses = people.poses
    blank = Poses.blank(len(poses), poses.keypoints.shape[1])
    kept = {name: getattr(poses, name) for name in ("boxes", "image_ids", "ids", "crowd", "box_scores")}
    return replace(people, poses=replace(blank, areas=box_areas(poses.boxes), **kept))


def _shuffled(units: Ids, seed: int) -> NDArray[np.int64]:
    """Positions sorted by a random order of the units; inside a unit they keep their order."""
    names, inverse = np.unique(units, return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names))
    return np.argsort(place[inverse], kind="stable")


def _draw(units: Ids, target: int, most: int, seed: int) -> NDArray[np.bool_]:
    """(N,) true for whole units in random order until `target` rows are drawn, skipping units that exceed `most`."""
    order = _shuffled(units, seed)
    chosen = np.zeros(len(units), bool)
    total = 0
    for rows in np.split(order, np.flatnonzero(np.diff(units[order])) + 1):
        if total < target and total + len(rows) <= most:
            chosen[rows] = True
            total += len(rows)
    return chosen


def _wanted(labeled: int | float, total: int, by: str) -> int:
    if isinstance(labeled, float) and 0 < labeled < 1:
        return max(1, round(labeled * total))
    if labeled != int(labeled) or not 1 <= labeled <= total:
        what = {"image": "images", "person": "people", "group": "images"}[by]
        raise UsageError(f"--labeled is {labeled}; expected 1 to {total} {what}, or a share between 0 and 1.")
    return int(labeled)
