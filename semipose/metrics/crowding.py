"""True people in, how crowded each image is out: CrowdPose's index, and its three classes of images."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semipose.metrics.pck import Floats
from semipose.pose.poses import Poses

CLASSES = ("easy", "medium", "hard")
EDGES = (0.2, 0.8)
"""Where CrowdPose's released evaluation parts them, as all published numbers do; its paper has 0.1 and 0.8."""


def crowd_index(people: Poses, image_ids: ArrayLike) -> Floats:
    """CrowdPose's index (I,) of the images `image_ids` (I,): 0 is nobody in anybody's box, above 0.8 is crowded.

    The mean over people of: labeled keypoints of the others within the person's box, its border included, by the
    person's own labeled keypoints. Crowd regions and people without labels are left out; an image of nobody has 0.
    Where a json has a crowdIndex that one counts: the formula gives it on 93 % of CrowdPose's images (rounded).
    """
    counted = people[~people.crowd & (people.visible > 0).any(1)]
    order = np.argsort(counted.image_ids, kind="stable")
    ends = [np.searchsorted(counted.image_ids[order], image_ids, side) for side in ("left", "right")]
    return np.array([_of_image(counted[order[a:b]]) if b > a else 0.0 for a, b in zip(*ends, strict=True)])


def _of_image(people: Poses) -> float:
    boxes, labeled = people.boxes[:, None, None], people.visible > 0
    # (person with the box, person of the keypoint, keypoint)
    inside = (people.keypoints >= boxes[..., :2]) & (people.keypoints <= boxes[..., :2] + boxes[..., 2:])
    others = inside.all(-1) & labeled & ~np.eye(len(people), dtype=bool)[..., None]
    return float(np.mean(others.sum((1, 2)) / labeled.sum(1)))


def classes_of(index: Floats, edges: tuple[float, float] = EDGES) -> dict[str, NDArray[np.bool_]]:
    """Which images (I,) are easy (index < the first edge), medium (< the second) and hard; those of NaN none."""
    first, second = edges
    return dict(zip(CLASSES, (index < first, (index >= first) & (index < second), index >= second), strict=True))
