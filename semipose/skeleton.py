"""What a pose consists of: keypoint names, bones, left/right partners and OKS sigmas, read from a COCO category.

`PRESETS` holds the skeletons of known data sets; their tables are in `semipose.presets`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from semipose.errors import DataError
from semipose.keypoint_names import flip_by_names, nearest, normalized
from semipose.presets import TABLES

DEFAULT_SIGMA = 0.072
"""Used where nobody published a value: that of COCO's elbows, near the middle of COCO's 0.025 to 0.107."""

_OVERRIDE_KEYS = ("category", "keypoints", "skeleton", "flip_pairs", "sigmas")


@dataclass(frozen=True)
class Skeleton:
    """K named keypoints. Indices are 0-based here; a COCO category counts bones from 1.

    `flip[k]` is the keypoint that k becomes in a mirrored image, k itself where it has no partner. `sigmas` are
    COCO's per-keypoint OKS constants (OKS falls to exp(-1/8) at a distance of sigma * sqrt(area) pixels), and
    `sigmas_source` says where they come from: it is printed next to every AP.
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
            raise DataError(f"{where} names no keypoint; expected at least one name in the category's 'keypoints'.")
        twice = sorted({name for name in self.keypoints if self.keypoints.count(name) > 1})
        if twice:
            raise DataError(f"{where} names {', '.join(twice)} more than once; every keypoint needs its own name.")
        if len(self.flip) != count or any(not 0 <= j < count or self.flip[j] != i for i, j in enumerate(self.flip)):
            raise DataError(f"{where}: flip {self.flip} is no exchange of pairs among its {count} keypoints.")
        if len(self.sigmas) != count or not all(math.isfinite(s) and s > 0 for s in self.sigmas):
            raise DataError(f"{where}: found sigmas {self.sigmas}; expected {count} numbers above 0.")
        if any(not 0 <= end < count for bone in self.bones for end in bone):
            raise DataError(f"{where}: a bone points outside its {count} keypoints: {self.bones}.")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip_pairs(self) -> tuple[tuple[str, str], ...]:
        """The names exchanged in a mirrored image, each pair once."""
        return tuple((self.keypoints[i], self.keypoints[j]) for i, j in enumerate(self.flip) if i < j)

    @cached_property
    def torso(self) -> tuple[tuple[int, int], ...]:
        """(left shoulder, right hip) and (right shoulder, left hip) where the names tell; () where they do not."""
        at = {normalized(name): i for i, name in enumerate(self.keypoints)}

        def find(side: str, *parts: str) -> int | None:
            return next((at[s + part] for s in (side, side[0]) for part in parts if s + part in at), None)

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
        """The skeleton of a COCO category, with what `override` replaces.

        `override` may hold `skeleton` and `flip_pairs` (pairs of names), `sigmas` (by name, or the name of a preset)
        and `keypoints` (the names, for a category that has none); `override_source` is said where its sigmas are.
        Sigmas come from the override, else from the category's "sigmas", else from the preset of the same names,
        else by name from COCO-17, else `DEFAULT_SIGMA`; flip partners from the names.
        """
        override = override or {}
        check_override(override, override_source)
        names = _names(category, override, override_source)
        preset = matching_preset(names)
        sigmas, source = _sigmas(names, preset, category, override, override_source)
        return cls(
            name=str(category.get("name") or "object"),
            keypoints=names,
            bones=_bones(names, preset, category, override, override_source),
            flip=_flip(names, override, override_source),
            sigmas=sigmas,
            sigmas_source=source,
        )

    def to_category(self, id: int = 1) -> dict[str, Any]:
        """A COCO category; bones are 1-based there."""
        return {
            "id": id,
            "name": self.name,
            "keypoints": list(self.keypoints),
            "skeleton": [[a + 1, b + 1] for a, b in self.bones],
        }

    def to_dict(self) -> dict[str, Any]:
        """Lossless json; `from_dict` reads it back."""
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
        """The inverse of `to_dict`."""
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
            raise DataError(f"a stored skeleton cannot be read ({error!r}); expected what to_dict wrote.") from error


def matching_preset(names: Sequence[str]) -> Skeleton | None:
    """The preset with these names; one in the same order is preferred to one with the same set."""
    wanted = [normalized(name) for name in names]
    known = [(preset, [normalized(name) for name in preset.keypoints]) for preset in PRESETS.values()]
    for preset, have in known:
        if have == wanted:
            return preset
    return next((preset for preset, have in known if set(have) == set(wanted)), None)


def check_override(override: Mapping[str, Any], source: str) -> None:
    """Refuse keys that nobody reads: a misspelled `flip_pairs` would otherwise be ignored in silence."""
    for key in override:
        if key not in _OVERRIDE_KEYS:
            raise DataError(
                f"{source}: unknown key {key!r}; expected any of {', '.join(_OVERRIDE_KEYS)}."
                + nearest(key, _OVERRIDE_KEYS)
            )


def _names(category: Mapping[str, Any], override: Mapping[str, Any], source: str) -> tuple[str, ...]:
    where = f"category {category.get('name', '?')!r}"
    own, given = category.get("keypoints"), override.get("keypoints")
    if own and given and list(own) != list(given):
        raise DataError(
            f"{source}: 'keypoints' {list(given)} differ from those of {where} {list(own)}; names can only be given "
            "for a category that has none. Leave the key out."
        )
    names = own or given
    if not isinstance(names, list | tuple) or not names or not all(isinstance(n, str) and n for n in names):
        raise DataError(f"{where} has keypoints {names!r}; expected a list of names. Give them in the skeleton file.")
    return tuple(names)


def _index(name: object, names: Sequence[str], source: str) -> int:
    if name in names:
        return names.index(str(name))
    at = {normalized(known): i for i, known in enumerate(names)}
    key = normalized(name) if isinstance(name, str) else ""
    if key not in at:
        raise DataError(f"{source}: {name!r} is no keypoint of {', '.join(names)}." + nearest(name, names))
    return at[key]


def _pairs(value: object, key: str, names: Sequence[str], source: str) -> list[tuple[int, int]]:
    """Pairs of keypoint names, as indices."""
    if not isinstance(value, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
        raise DataError(f"{source}: {key!r} is {value!r}; expected a list of pairs of names, [[left_eye, right_eye]].")
    return [(_index(a, names, source), _index(b, names, source)) for a, b in value]


def _flip(names: Sequence[str], override: Mapping[str, Any], source: str) -> tuple[int, ...]:
    if "flip_pairs" not in override:
        return flip_by_names(names)
    pairs = _pairs(override["flip_pairs"] or [], "flip_pairs", names, source)
    ends = list(chain.from_iterable(pairs))
    twice = sorted({names[i] for i in ends if ends.count(i) > 1})
    if twice:
        raise DataError(f"{source}: 'flip_pairs' uses {', '.join(twice)} twice; a keypoint has one partner.")
    flip = list(range(len(names)))
    for a, b in pairs:
        flip[a], flip[b] = b, a
    return tuple(flip)


def _bones(
    names: Sequence[str],
    preset: Skeleton | None,
    category: Mapping[str, Any],
    override: Mapping[str, Any],
    source: str,
) -> tuple[tuple[int, int], ...]:
    """Bones are only drawn, so a missing or broken list (CrowdPose ships COCO's) gives the preset's, or none."""
    if "skeleton" in override:
        return tuple(_pairs(override["skeleton"] or [], "skeleton", names, source))
    bones = category.get("skeleton")
    if isinstance(bones, list | tuple) and bones and all(_is_bone(bone, len(names)) for bone in bones):
        return tuple((bone[0] - 1, bone[1] - 1) for bone in bones)
    if preset is None:
        return ()
    return tuple(
        (_index(preset.keypoints[a], names, source), _index(preset.keypoints[b], names, source))
        for a, b in preset.bones
    )


def _is_bone(bone: object, count: int) -> bool:
    return (
        isinstance(bone, list | tuple)
        and len(bone) == 2
        and all(type(end) is int and 1 <= end <= count for end in bone)
    )


def _sigmas(
    names: Sequence[str],
    preset: Skeleton | None,
    category: Mapping[str, Any],
    override: Mapping[str, Any],
    source: str,
) -> tuple[tuple[float, ...], str]:
    if override.get("sigmas") is not None:
        return _given_sigmas(override["sigmas"], names, source)
    if category.get("sigmas") is not None:
        where = f"category {category.get('name', '?')!r}"
        return _given_sigmas(category["sigmas"], names, where)[0], "given in json"
    if preset is not None:
        return _by_name(names, preset), preset.sigmas_source
    return _partly_coco(names)


def _given_sigmas(value: object, names: Sequence[str], source: str) -> tuple[tuple[float, ...], str]:
    """Sigmas from a preset's name, from a mapping by keypoint name, or from a list in the keypoints' order."""
    if isinstance(value, str):
        preset = PRESETS.get(value)
        if preset is None or {normalized(n) for n in names} - {normalized(n) for n in preset.keypoints}:
            raise DataError(
                f"{source}: 'sigmas: {value}' is no preset with these keypoints; known are {', '.join(PRESETS)}."
                + nearest(value, PRESETS)
            )
        return _by_name(names, preset), f"{preset.sigmas_source}, chosen in {source}"
    if isinstance(value, Mapping):
        by_index = {_index(name, names, source): sigma for name, sigma in value.items()}
        missing = [name for i, name in enumerate(names) if i not in by_index]
        if missing:
            raise DataError(f"{source}: 'sigmas' leaves out {', '.join(missing)}; expected one for every keypoint.")
        value = [by_index[i] for i in range(len(names))]
    numbers = value if isinstance(value, list | tuple) else []
    if len(numbers) != len(names) or not all(
        isinstance(s, int | float) and not isinstance(s, bool) and math.isfinite(s) and s > 0 for s in numbers
    ):
        raise DataError(f"{source}: 'sigmas' is {value!r}; expected {len(names)} numbers above 0.")
    return tuple(float(s) for s in numbers), source


def _by_name(names: Sequence[str], preset: Skeleton) -> tuple[float, ...]:
    sigma = dict(zip(map(normalized, preset.keypoints), preset.sigmas, strict=True))
    return tuple(sigma[normalized(name)] for name in names)


def _partly_coco(names: Sequence[str]) -> tuple[tuple[float, ...], str]:
    coco = PRESETS["coco_17"]
    known = dict(zip(map(normalized, coco.keypoints), coco.sigmas, strict=True))
    sigmas = tuple(known.get(normalized(name), DEFAULT_SIGMA) for name in names)
    others = [name for name in names if normalized(name) not in known]
    if len(others) == len(names):
        return sigmas, f"default {DEFAULT_SIGMA} (no published sigmas)"
    if not others:
        return sigmas, "COCO-17 by name"
    some = ", ".join(others) if len(others) <= 4 else f"{len(others)} others"
    return sigmas, f"COCO-17 by name; default {DEFAULT_SIGMA} for {some} (no published sigmas)"


def _preset(sigmas: Mapping[str, float], bones: str, source: str) -> Skeleton:
    names = tuple(sigmas)
    ends = [bone.split() for bone in bones.split(", ")]
    at = tuple((names.index(a), names.index(b)) for a, b in ends)
    return Skeleton("person", names, at, flip_by_names(names), tuple(sigmas.values()), source)


PRESETS: dict[str, Skeleton] = {key: _preset(*table) for key, table in TABLES.items()}
