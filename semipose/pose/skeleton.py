"""Skeletons: keypoint names, bones, left/right partners and OKS sigmas, read from a COCO category.

`PRESETS` holds the skeletons of published data sets; their tables are in `semipose.pose.presets`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from semipose.errors import DataError
from semipose.pose.category import CategoryReader
from semipose.pose.names import flip_by_names, normalized
from semipose.pose.presets import TABLES, bone_names


@dataclass(frozen=True)
class Skeleton:
    """K named keypoints. Indices are 0-based here; a COCO category counts bones from 1.

    `flip[k]` is the keypoint that k becomes in a mirrored image, k itself where it has no partner. `sigmas` are COCO's
    per-keypoint OKS constants: OKS falls to exp(-1/8) at a distance of sigma * sqrt(area) pixels. `sigmas_source` names
    their origin and is printed next to every AP.
    """

    name: str
    keypoints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    flip: tuple[int, ...]
    sigmas: tuple[float, ...]
    sigmas_source: str

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        where = f"skeleton {self.name!r}"
        if count == 0:
            raise DataError(f"{where} has no keypoints; expected at least one name in the category's 'keypoints'.")
        twice = sorted({name for name in self.keypoints if self.keypoints.count(name) > 1})
        if twice:
            raise DataError(f"{where} names {', '.join(twice)} more than once; every keypoint needs its own name.")
        if len(self.flip) != count or any(not 0 <= j < count or self.flip[j] != i for i, j in enumerate(self.flip)):
            raise DataError(f"{where}: flip is {self.flip}; expected pairs that swap among its {count} keypoints.")
        if len(self.sigmas) != count or not all(math.isfinite(s) and s > 0 for s in self.sigmas):
            raise DataError(f"{where}: sigmas are {self.sigmas}; expected {count} numbers above 0.")
        if any(not 0 <= end < count for bone in self.bones for end in bone):
            raise DataError(f"{where}: bones are {self.bones}; expected indices of its {count} keypoints.")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip_pairs(self) -> tuple[tuple[str, str], ...]:
        """Names of left/right partners, each pair once."""
        return tuple((self.keypoints[i], self.keypoints[j]) for i, j in enumerate(self.flip) if i < j)

    @cached_property
    def torso(self) -> tuple[tuple[int, int], ...]:
        """Indices of left shoulder and right hip, and of right shoulder and left hip, by name; () without them."""
        index = {normalized(name): i for i, name in enumerate(self.keypoints)}

        def find(side: str, *parts: str) -> int | None:
            return next((index[s + part] for s in (side, side[0]) for part in parts if s + part in index), None)

        pairs = [
            (find("left", "shoulder", "sho"), find("right", "hip")),
            (find("right", "shoulder", "sho"), find("left", "hip")),
        ]
        found = tuple((a, b) for a, b in pairs if a is not None and b is not None)
        return found if len(found) == 2 else ()

    @classmethod
    def from_category(
        cls,
        category: Mapping[str, Any],
        override: Mapping[str, Any] | None = None,
        *,
        override_source: str = "given",
    ) -> "Skeleton":
        """Read the skeleton of a COCO category; entries of `override` take precedence.

        Keys of `override`:

        - `skeleton`, `flip_pairs`: pairs of names
        - `sigmas`: numbers by name or in order, or the name of a preset
        - `keypoints`: names, for a category that has none

        Without an override, sigmas come from the category, a preset with the same names, COCO-17 by name, or are 0.072,
        in this order. Flip partners come from the names. `override_source` becomes the `sigmas_source`.
        """
        parts = CategoryReader(category, override or {}, override_source)
        sigmas, source = parts.sigmas()
        return cls(
            name=str(category.get("name") or "object"),
            keypoints=parts.names,
            bones=parts.bones(),
            flip=parts.flip(),
            sigmas=sigmas,
            sigmas_source=source,
        )

    def to_category(self, id: int = 1) -> dict[str, Any]:
        """Return a COCO category, with 1-based bones."""
        return {
            "id": id,
            "name": self.name,
            "keypoints": list(self.keypoints),
            "skeleton": [[a + 1, b + 1] for a, b in self.bones],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a json-able dict for `from_dict`."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "bones": [list(bone) for bone in self.bones],
            "flip": list(self.flip),
            "sigmas": list(self.sigmas),
            "sigmas_source": self.sigmas_source,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Skeleton":
        """Undo `to_dict`."""
        try:
            return cls(
                name=value["name"],
                keypoints=tuple(value["keypoints"]),
                bones=tuple((int(a), int(b)) for a, b in value["bones"]),
                flip=tuple(int(i) for i in value["flip"]),
                sigmas=tuple(float(s) for s in value["sigmas"]),
                sigmas_source=value["sigmas_source"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"a stored skeleton cannot be read ({error!r}); expected the dict of to_dict.") from error


def _preset(sigmas: Mapping[str, float], bones: str, source: str) -> Skeleton:
    names = tuple(sigmas)
    pairs = tuple((names.index(a), names.index(b)) for a, b in bone_names(bones))
    return Skeleton("person", names, pairs, flip_by_names(names), tuple(sigmas.values()), source)


PRESETS: dict[str, Skeleton] = {key: _preset(*table) for key, table in TABLES.items()}
