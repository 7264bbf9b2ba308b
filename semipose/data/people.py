"""People in image files: what the readers in `semipose.formats` return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semipose.data.masks import Outline
from semipose.errors import DataError
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton


class ListedImage(NamedTuple):
    """An image as a label file lists it; `fields` are all of its fields except id, name and size."""

    id: int
    file_name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Images:
    """I image files: absolute paths, ids (I,), sizes (I, 2) as (H, W), 0 where unknown, and other fields in `extra`."""

    files: tuple[str, ...]
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    extra: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        count = len(self.files)
        found = (np.shape(self.ids), np.shape(self.sizes), len(self.extra))
        if found != ((count,), (count, 2), count):
            raise DataError(
                f"Images: ids, sizes and extra of {found} do not fit {count} files; expected ({count},), "
                f"({count}, 2) and {count}."
            )

    def __len__(self) -> int:
        return len(self.files)

    def select(self, rows: NDArray[Any]) -> "Images":
        """Return the images at `rows` (positions), in that order."""
        return Images(
            files=tuple(self.files[row] for row in rows),
            ids=self.ids[rows],
            sizes=self.sizes[rows],
            extra=tuple(self.extra[row] for row in rows),
        )


@dataclass
class People:
    """N people in I images; person n is in image `image_index[n]`.

    `box_source` says where the boxes come from: "given", "detections", "keypoints" (enlarged hull) or "image", joined
    by commas if mixed. `source` is the file or folder they were read from; `notes` say what was skipped or assumed.
    `outlines`, by the id of `poses`, are regions to be ignored; people without one are ignored in their box.
    """

    images: Images
    image_index: NDArray[np.int64]
    poses: Poses
    skeleton: Skeleton | None
    box_source: str
    source: str
    notes: tuple[str, ...] = ()
    outlines: Mapping[int, Outline] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.image_index = np.asarray(self.image_index, dtype=np.int64)
        if self.image_index.shape != (len(self.poses),):
            raise DataError(f"People: image_index has shape {self.image_index.shape}; expected ({len(self.poses)},).")
        if len(self) and not 0 <= self.image_index.min() <= self.image_index.max() < len(self.images):
            raise DataError(f"People: image_index points outside the {len(self.images)} images.")

    def __len__(self) -> int:
        return len(self.poses)

    def select(self, rows: "slice | NDArray[Any]") -> "People":
        """Return the people at `rows` (slice, positions or mask), with only the images they are in."""
        index = self.image_index[rows]
        used, inverse = np.unique(index, return_inverse=True)
        return replace(self, images=self.images.select(used), image_index=inverse, poses=self.poses[rows])

    def within(self, images: NDArray[Any]) -> "People":
        """Return the people in `images` (positions or mask); images without people are kept too."""
        kept = np.arange(len(self.images))[images]
        new_index = np.full(len(self.images), -1)
        new_index[kept] = np.arange(len(kept))
        rows = np.flatnonzero(new_index[self.image_index] >= 0)
        index = new_index[self.image_index[rows]]
        return replace(self, images=self.images.select(kept), image_index=index, poses=self.poses[rows])

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(N,) true for people with a labeled keypoint that are no crowds; the others are to be ignored."""
        return np.asarray((self.poses.visible > 0).any(1) & ~self.poses.crowd)

    @classmethod
    def concatenate(cls, parts: "Sequence[People]") -> "People":
        """Join people of several sources, without their outlines.

        Image and annotation ids are kept if they stay distinct, else numbered from 1.
        """
        if len(parts) == 1:
            return parts[0]
        images, poses = [part.images for part in parts], Poses.concatenate([part.poses for part in parts])
        starts = np.cumsum([0, *map(len, images)])
        sources = (part.box_source.split(",") for part in parts)
        index = np.concatenate([part.image_index + start for part, start in zip(parts, starts[:-1], strict=True)])
        ids = np.concatenate([one.ids for one in images])
        if len(np.unique(ids)) != len(ids):
            ids = np.arange(1, len(ids) + 1)
        if len(np.unique(poses.ids)) != len(poses):
            poses.ids = np.arange(1, len(poses) + 1)
        poses.image_ids = ids[index]
        return cls(
            images=Images(
                files=tuple(chain.from_iterable(one.files for one in images)),
                ids=ids,
                sizes=np.concatenate([one.sizes for one in images]),
                extra=tuple(chain.from_iterable(one.extra for one in images)),
            ),
            image_index=index,
            poses=poses,
            skeleton=parts[0].skeleton,
            box_source=",".join(dict.fromkeys(filter(None, chain.from_iterable(sources)))),
            source=", ".join(part.source for part in parts),
            notes=tuple(chain.from_iterable(part.notes for part in parts)),
        )
