"""A small project of synthetic people for tests that need files."""

from pathlib import Path

import numpy as np

from semipose.data.people import People
from semipose.formats.labels import load_labels
from semipose.synthetic.single import write_people


def people(folder: Path, count: int = 12, *, seed: int = 0, size: tuple[int, int] = (96, 72)) -> People:
    """`count` synthetic people in `folder`, with labels."""
    labels = write_people(folder, count, seed=seed, size=size, difficulty=0.2)
    return load_labels(labels, folder / "images")


def unlabeled(people: People) -> People:
    """The same people without their labels."""
    from dataclasses import replace

    poses = replace(
        people.poses, keypoints=np.zeros_like(people.poses.keypoints), visible=np.zeros_like(people.poses.visible)
    )
    return replace(people, poses=poses)
