"""Names, bones, partners and sigmas of a skeleton, read from a COCO category and a file of overrides."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from semipose.errors import DataError, suggestion
from semipose.pose.names import flip_by_names, normalized
from semipose.pose.presets import TABLES, bone_names

OVERRIDE_KEYS = ("category", "keypoints", "skeleton", "flip_pairs", "sigmas")
DEFAULT_SIGMA = 0.072
"""Used where no value is published: that of COCO's elbows, near the middle of COCO's 0.025 to 0.107."""

Sigmas = tuple[tuple[float, ...], str]


@dataclass(frozen=True)
class CategoryReader:
    """Reader of one category. `override` takes precedence and is called `source` in errors; indices are 0-based."""

    category: Mapping[str, Any]
    override: Mapping[str, Any]
    source: str

    def __post_init__(self) -> None:
        check_override(self.override, self.source)
        own, override = self.category.get("keypoints"), self.override.get("keypoints")
        where = f"category {self.category.get('name', '?')!r}"
        if own and override and list(own) != list(override):
            raise DataError(
                f"{self.source}: 'keypoints' {list(override)} differ from those of {where} {list(own)}. Names can only "
                "be given for a category that has none: leave the key out."
            )
        names = own or override
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
            raise DataError(f"{where} has keypoints {names!r}; expected a list of names.")

    @property
    def names(self) -> tuple[str, ...]:
        """Keypoint names, as written."""
        return tuple(self.category.get("keypoints") or self.override["keypoints"])

    def flip(self) -> tuple[int, ...]:
        """Partners from the override, else from the names; an empty list of pairs means no partners."""
        if "flip_pairs" not in self.override:
            return flip_by_names(self.names)
        pairs = self._pairs("flip_pairs")
        ends = list(chain.from_iterable(pairs))
        twice = sorted({self.names[i] for i in ends if ends.count(i) > 1})
        if twice:
            raise DataError(f"{self.source}: 'flip_pairs' uses {', '.join(twice)} twice; a keypoint has one partner.")
        flip = list(range(len(self.names)))
        for a, b in pairs:
            flip[a], flip[b] = b, a
        return tuple(flip)

    def bones(self) -> tuple[tuple[int, int], ...]:
        """Bones, for drawing only: a missing or broken list (CrowdPose ships COCO's) is replaced by the preset's."""
        if "skeleton" in self.override:
            return tuple(self._pairs("skeleton"))
        bones = self.category.get("skeleton")
        if isinstance(bones, list | tuple) and bones and all(self._is_bone(bone) for bone in bones):
            return tuple((bone[0] - 1, bone[1] - 1) for bone in bones)
        preset = matching_table(self.names)
        return () if preset is None else tuple((self._index(a), self._index(b)) for a, b in bone_names(preset[1]))

    def sigmas(self) -> Sigmas:
        """OKS sigmas and their source."""
        if self.override.get("sigmas") is not None:
            return self._chosen(self.override["sigmas"])
        if self.category.get("sigmas") is not None:
            return self._numbers(self.category["sigmas"], "the category"), "given in json"
        preset = matching_table(self.names)
        if preset is not None:
            return _by_name(self.names, preset[0]), preset[2]
        return _partly_coco(self.names)

    def _chosen(self, value: object) -> Sigmas:
        """Sigmas from a preset's name, a mapping by keypoint name, or a list in the order of the keypoints."""
        if isinstance(value, str):
            preset = TABLES.get(value)
            if preset is None or set(map(normalized, self.names)) - set(map(normalized, preset[0])):
                raise DataError(
                    f"{self.source}: 'sigmas: {value}' is no preset with these keypoints"
                    f"{suggestion(value, TABLES)}; the presets are {', '.join(TABLES)}."
                )
            return _by_name(self.names, preset[0]), f"{preset[2]}, chosen in {self.source}"
        if isinstance(value, Mapping):
            by_index = {self._index(name): sigma for name, sigma in value.items()}
            missing = [name for i, name in enumerate(self.names) if i not in by_index]
            if missing:
                raise DataError(f"{self.source}: 'sigmas' leaves out {', '.join(missing)}; expected all keypoints.")
            value = [by_index[i] for i in range(len(self.names))]
        return self._numbers(value, self.source), self.source

    def _numbers(self, value: object, source: str) -> tuple[float, ...]:
        count = len(self.names)
        if not isinstance(value, list | tuple) or len(value) != count or not all(map(_is_sigma, value)):
            raise DataError(f"{source}: 'sigmas' is {value!r}; expected {count} numbers above 0.")
        return tuple(float(sigma) for sigma in value)

    def _pairs(self, key: str) -> list[tuple[int, int]]:
        """Pairs of keypoint names, as indices."""
        value = self.override[key] or []
        if not isinstance(value, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
            raise DataError(f"{self.source}: {key!r} is {value!r}; expected pairs of names, [[left_eye, right_eye]].")
        pairs = [(self._index(a), self._index(b)) for a, b in value]
        same = [self.names[a] for a, b in pairs if a == b]
        if same:
            raise DataError(f"{self.source}: {key!r} pairs {same[0]!r} with itself; expected two keypoints.")
        return pairs

    def _index(self, name: object) -> int:
        if name in self.names:
            return self.names.index(str(name))
        index = {normalized(known): i for i, known in enumerate(self.names)}
        key = normalized(name) if isinstance(name, str) else ""
        if key not in index:
            raise DataError(
                f"{self.source}: {name!r} is no keypoint{suggestion(name, self.names)}; "
                f"the keypoints are {', '.join(self.names)}."
            )
        return index[key]

    def _is_bone(self, bone: object) -> bool:
        if not isinstance(bone, list | tuple) or len(bone) != 2:
            return False
        return all(type(end) is int and 1 <= end <= len(self.names) for end in bone)


def check_override(override: Mapping[str, Any], source: str) -> None:
    """Raise DataError for unknown keys: a misspelled `flip_pairs` would otherwise be ignored."""
    for key in override:
        if key not in OVERRIDE_KEYS:
            raise DataError(
                f"{source}: unknown key {key!r}{suggestion(key, OVERRIDE_KEYS)}; "
                f"expected any of {', '.join(OVERRIDE_KEYS)}."
            )


def matching_table(names: Sequence[str]) -> tuple[dict[str, float], str, str] | None:
    """Return the preset with these names, preferably in this order; None without one."""
    wanted = [normalized(name) for name in names]
    presets = [(table, [normalized(name) for name in table[0]]) for table in TABLES.values()]
    same_order = next((table for table, preset in presets if preset == wanted), None)
    return same_order or next((table for table, preset in presets if sorted(preset) == sorted(wanted)), None)


def _by_name(names: Sequence[str], table: Mapping[str, float]) -> tuple[float, ...]:
    sigma = {normalized(name): value for name, value in table.items()}
    return tuple(sigma[normalized(name)] for name in names)


def _partly_coco(names: Sequence[str]) -> Sigmas:
    coco = {normalized(name): value for name, value in TABLES["coco_17"][0].items()}
    sigmas = tuple(coco.get(normalized(name), DEFAULT_SIGMA) for name in names)
    others = [name for name in names if normalized(name) not in coco]
    if len(others) == len(names):
        return sigmas, f"default {DEFAULT_SIGMA} (no published sigmas)"
    if not others:
        return sigmas, "COCO-17 by name"
    listed = ", ".join(others) if len(others) <= 4 else f"{len(others)} others"
    return sigmas, f"COCO-17 by name; default {DEFAULT_SIGMA} for {listed} (no published sigmas)"


def _is_sigma(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
