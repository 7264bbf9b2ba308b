"""The labels themselves: points outside, people with few points, keypoints never labeled, tiny boxes, swapped sides."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from semipose.checks.finding import Finding, examples
from semipose.checks.swapped_sides import swapped_sides
from semipose.data.people import People
from semipose.pose.skeleton import Skeleton

BOX_ROOM = 1.5
"""Labels beyond a box enlarged by this are likely mistakes; some beyond the box itself are usual in COCO."""
FEW_POINTS = 3
TINY = 32
"""A longer side below this many pixels shows too little to place a keypoint."""


def check_labels(people: People, skeleton: Skeleton, name: str) -> Iterator[Finding]:
    """Findings about the labels of the stream called `name`; people are named by annotation id."""
    yield from _outside_images(people, name)
    yield from _outside_boxes(people, name)
    yield from _seldom(people, skeleton, name)
    poses = people.poses
    few = (poses.visible > 0).sum(1) < min(FEW_POINTS, len(skeleton))
    if few.any():
        yield Finding(
            "note",
            f"{few.sum()} {name} people have fewer than {FEW_POINTS} labeled keypoints: {_ids(people, few)}",
            "They teach little; label more of their keypoints or take them out.",
        )
    tiny = np.maximum(poses.boxes[:, 2], poses.boxes[:, 3]) < TINY
    if tiny.any():
        yield Finding(
            "note",
            f"{tiny.sum()} {name} people are smaller than {TINY} pixels: {_ids(people, tiny)}",
            "Use pictures of a higher resolution, or take these people out.",
        )
    swapped = swapped_sides(poses.keypoints, poses.visible, skeleton)
    if swapped.any():
        yield Finding(
            "warning",
            f"left and right may be swapped on {swapped.sum()} {name} people: {_ids(people, swapped)}",
            "Look at them on the contact sheet; left is the person's own left, not the picture's.",
        )


def _outside_images(people: People, name: str) -> Iterator[Finding]:
    sizes = people.images.sizes[people.image_index][:, None, ::-1]
    labeled = people.poses.visible > 0
    xy = people.poses.keypoints
    # The last pixel's far edge lies half a pixel beyond its center; tools that count from corners add another half.
    beyond = ((xy < -1) | (xy > sizes)) & (sizes > 0)
    outside = np.asarray((beyond.any(2) & labeled).any(1))
    if outside.any():
        yield Finding(
            "warning",
            f"{outside.sum()} {name} people have labeled keypoints outside of their image: {_ids(people, outside)}",
            "Check that the labels belong to these pictures and this size; give visibility 0 to what is not seen.",
        )


def _outside_boxes(people: People, name: str) -> Iterator[Finding]:
    boxes = people.poses.boxes
    middle = (boxes[:, :2] + boxes[:, 2:] / 2)[:, None]
    half = (boxes[:, 2:].max(1) / 2 * BOX_ROOM)[:, None, None]
    away = (np.abs(people.poses.keypoints - middle) > half).any(2) & (people.poses.visible > 0)
    outside = away.any(1)
    if outside.any():
        yield Finding(
            "warning",
            f"{outside.sum()} {name} people have labeled keypoints far outside of their box: {_ids(people, outside)}",
            "Check the boxes ([x, y, width, height], not corners), or leave them out: they are made from keypoints.",
        )


def _seldom(people: People, skeleton: Skeleton, name: str) -> Iterator[Finding]:
    counts = (people.poses.visible > 0).sum(0)
    never = [skeleton.keypoints[k] for k in np.flatnonzero(counts == 0)]
    if never:
        yield Finding(
            "warning",
            f"keypoints never labeled in the {name} people: {examples(never)}",
            "Label them on some people, or take them out of the category: nothing can be learned or measured there.",
        )
    limit = max(2, len(people) // 50)
    rare = [f"{skeleton.keypoints[k]} ({counts[k]})" for k in np.flatnonzero((counts > 0) & (counts < limit))]
    if rare and name == "labeled":
        yield Finding(
            "note",
            f"keypoints labeled on very few of the {len(people)} labeled people: {examples(rare)}",
            "Expect poor accuracy there; label more people that show them.",
        )


def _ids(people: People, mask: NDArray[np.bool_]) -> str:
    return f"annotation {examples(people.poses.ids[mask].tolist())}"
