"""Make split files. For one seed, a smaller split is part of a larger one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from semipose.data.people import ListedImage, People
from semipose.data.splits import GROUP_FIELDS, Ids, group_field, shuffled
from semipose.errors import UsageError

By = Literal["image", "person", "group", "first"]


def make_split(
    people: People, labeled: float, by: By = "image", seed: int = 0, groups: Mapping[int, str] | None = None
) -> dict[str, Any]:
    """Make a split in which `labeled` images or people keep their labels: a number, or a share below 1.

    "image", "person" and "group" cut one random order, drawn by `seed`. By person, whole images are taken until they
    hold that many people. By group, whole groups (photos, videos) are taken until they hold that many images with
    people. `groups` maps image ids to groups and defaults to the field that `group_field` finds. An image without a
    labeled person is unlabeled, unless its group is labeled.

    "first" takes exactly the first people of the file, image after image. The published COCO tables with 1K, 5K and 10K
    labels did so (Xie et al., ICCV 2021). "labeled_people" then holds their annotation ids; other people in the last
    image are not used. Differs from the paper: its unlabeled people are those of all images, also of the labeled ones.
    """
    if by not in ("image", "person", "group", "first"):
        raise UsageError(f"--by is {by!r}; expected image, person, group or first.")
    if not 0 <= seed < 2**31:
        raise UsageError(f"--seed {seed}: must be 0 to 2147483647.")
    all_ids = people.images.ids
    if by == "first":
        if seed != 0:
            raise UsageError(f"--seed {seed}: --by first draws nothing; leave --seed out.")
        order = np.argsort(people.image_index, kind="stable")[: _count_of(labeled, len(people), by)]
        chosen = all_ids[np.unique(people.image_index[order])]
        rule: dict[str, Any] = {"by": by, "labeled_people": people.poses.ids[order].tolist()}
    else:
        chosen = _draw_images(people, labeled, by, seed, groups)
        rule = {"by": by, "seed": seed}
    return {"labeled": sorted(chosen.tolist()), "unlabeled": np.setdiff1d(all_ids, chosen).tolist(), **rule}


def group_images(images: Sequence[ListedImage], by: str, source: str) -> dict[int, str]:
    """Map the id of each image to its group.

    `by` names a field of the images ("video_id"), or is a pattern whose first (...) finds the group in a file name:
    r"(.*)_\\d+" makes one group of mouse_1.png and mouse_2.png. `source` names the label file in messages. Raises
    UsageError where an image has no group, or all have the same.
    """
    if "(" in by:
        found = _groups_by_name(images, by)
    else:
        found = {one.id: one.fields[by] for one in images if by in one.fields}
    if len(found) < len(images):
        lacking = next(one for one in images if one.id not in found)
        raise UsageError(
            f"--group {by}: {len(images) - len(found)} of {len(images)} images of {source} have no group, such as "
            f"{lacking.file_name}; expected a field of every image (here: {', '.join(lacking.fields) or 'none'}), or a "
            r"pattern with (...) that matches from the start of every file name, such as '(.*)_\d+'."
        )
    groups = {image: repr(value) for image, value in found.items()}
    if len(set(groups.values())) == 1:
        raise UsageError(f"--group {by}: all {len(images)} images of {source} are one group; use --by image.")
    return groups


def _groups_by_name(images: Sequence[ListedImage], pattern: str) -> dict[int, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group {pattern}: not a regular expression ({error}).") from error
    if not compiled.groups:
        raise UsageError(f"--group {pattern}: expected a pattern with a group in parentheses, such as '(.*)_\\d+'.")
    matches = ((one.id, compiled.match(one.file_name)) for one in images)
    return {image: match[1] for image, match in matches if match and match[1] is not None}


def _draw_images(people: People, labeled: float, by: str, seed: int, groups: Mapping[int, str] | None) -> Ids:
    """Return the ids of the labeled images: whole units in an order drawn by `seed`, until `labeled` is reached."""
    # Sorted by id, so that the order in the file does not matter.
    order = np.argsort(people.images.ids)
    ids, persons = people.images.ids[order], np.bincount(people.image_index, minlength=len(order))[order]
    units = np.arange(len(ids))
    if by == "group":
        groups = _known_groups(people) if groups is None else groups
        units = np.unique([groups[i] for i in ids.tolist()], return_inverse=True)[1]
    with_people = np.isin(units, units[persons > 0])
    ids, persons, units = ids[with_people], persons[with_people], units[with_people]
    weight = persons if by == "person" else np.minimum(persons, 1)
    count = _count_of(labeled, int(weight.sum()), by)
    order = shuffled(units, seed)
    before = np.cumsum(weight[order]) - weight[order]
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    unit_before = np.repeat(before[starts], np.diff([*starts, len(order)]))
    chosen = ids[order[unit_before < count]]
    if len(chosen) == len(ids) and count < weight.sum():
        raise UsageError(
            f"--by {by}: no image would stay unlabeled, as the {len(starts)} groups of {len(ids)} images are drawn "
            "whole; expected smaller groups, or a smaller --labeled."
        )
    return chosen


def _known_groups(people: People) -> dict[int, str]:
    name = group_field(people)
    if name is None:
        raise UsageError(
            f"--by group: no field of {', '.join(GROUP_FIELDS)} is in all images and differs between them. Name "
            "another field, or a pattern for file names, with --group, or use --by image."
        )
    return {int(i): repr(extra[name]) for i, extra in zip(people.images.ids, people.images.extra, strict=True)}


def _count_of(labeled: float, total: int, by: str) -> int:
    if 0 < labeled < 1:
        return max(1, round(labeled * total))
    if not float(labeled).is_integer() or not 1 <= labeled <= total:
        what = "people" if by in ("person", "first") else "images"
        raise UsageError(f"--labeled is {labeled:g}; expected 1 to {total} {what}, or a share between 0 and 1.")
    return int(labeled)
