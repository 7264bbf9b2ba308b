"""Which categories of a COCO json are the people: the ones whose keypoints are learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semipose.errors import DataError, suggestion
from semipose.pose.category import check_override

Category = Mapping[str, Any]


def read_skeleton_file(path: str | Path | None) -> dict[str, Any]:
    """The small yaml that overrides what a category says: flip_pairs, sigmas, skeleton, keypoints, category."""
    if path is None:
        return {}
    import yaml

    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: the skeleton file cannot be read as yaml: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: found {type(value).__name__}; expected keys such as flip_pairs: [[a, b]].")
    check_override(value, str(path))
    return value


def choose_categories(
    categories: Sequence[Category], used: Mapping[int, int], override: Mapping[str, Any]
) -> list[Category]:
    """The categories to learn; `used` counts annotations with keypoints by category id.

    One that names keypoints is taken. Of several, the one that annotations use; several used ones are taken together
    when they name the same keypoints (kinds of animals), else `category: NAME` in the skeleton file has to choose.
    """
    if override.get("category") is not None:
        return [_by_name(categories, override["category"])]
    named = [one for one in categories if one.get("keypoints") or override.get("keypoints")]
    if not named:
        names = ", ".join(repr(one.get("name")) for one in categories) or "none at all"
        raise DataError(
            f"no category has 'keypoints' (categories: {names}); expected a list of names, as in the COCO keypoint "
            "format. From CVAT export 'COCO Keypoints 1.0' with a skeleton label; from elsewhere add the list."
        )
    taken = [one for one in named if used.get(one["id"])] or named
    if len(taken) > 1 and any(list(one["keypoints"]) != list(taken[0]["keypoints"]) for one in taken):
        counts = ", ".join(f"{one.get('name')!r} ({used.get(one['id'], 0)} annotations)" for one in taken)
        raise DataError(
            f"several categories have keypoints: {counts}; one model learns one skeleton. "
            "Write `category: NAME` into a small yaml file and give it as the skeleton file."
        )
    return taken


def _by_name(categories: Sequence[Category], name: object) -> Category:
    for one in categories:
        if one.get("name") == name:
            return one
    names = [str(one.get("name")) for one in categories]
    raise DataError(f"no category is called {name!r}{suggestion(name, names)}; there are {', '.join(names)}.")


def box_categories(categories: Sequence[Category], name: str) -> list[Category]:
    """The categories whose boxes are people in a json read for its boxes only; none means every annotation.

    Those with keypoints, else the one called `name`, else all.
    """
    return [one for one in categories if one.get("keypoints")] or [one for one in categories if one.get("name") == name]
