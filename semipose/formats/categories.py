"""Choose the categories of a COCO json whose keypoints are learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semipose.errors import DataError, suggestion
from semipose.formats.label_format import ReadOptions
from semipose.pose.category import check_override

Category = Mapping[str, Any]


def read_skeleton_file(path: str | Path | None) -> dict[str, Any]:
    """Read the yaml that overrides parts of a category: flip_pairs, sigmas, skeleton, keypoints, category."""
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
    """Choose the categories to learn; `used` counts annotations with keypoints by category id.

    Candidates are the categories that name keypoints, or those of them that annotations use. Several are learned as
    one if they name the same keypoints, as kinds of animals do; else the skeleton file must give `category: NAME`.
    Raises DataError if no category or no single skeleton is left.
    """
    if override.get("category") is not None:
        return [_by_name(categories, override["category"])]
    named = [one for one in categories if one.get("keypoints") or override.get("keypoints")]
    if not named:
        names = ", ".join(repr(one.get("name")) for one in categories) or "none"
        raise DataError(
            f"no category has 'keypoints' (categories: {names}); expected a list of names, as in the COCO keypoint "
            "format. From CVAT export 'COCO Keypoints 1.0' with a skeleton label; from elsewhere add the list."
        )
    taken = [one for one in named if used.get(one["id"])] or named
    if len(taken) > 1 and any(list(one["keypoints"]) != list(taken[0]["keypoints"]) for one in taken):
        counts = ", ".join(f"{one.get('name')!r} ({used.get(one['id'], 0)} annotations)" for one in taken)
        raise DataError(
            f"several categories have keypoints: {counts}; one model learns one skeleton. "
            "Write `category: NAME` into a small yaml file and pass it with --skeleton."
        )
    return taken


def _by_name(categories: Sequence[Category], name: object) -> Category:
    for one in categories:
        if one.get("name") == name:
            return one
    names = [str(one.get("name")) for one in categories]
    raise DataError(f"no category is called {name!r}{suggestion(name, names)}; there are {', '.join(names)}.")


def learned_categories(categories: Sequence[Category], used: Mapping[int, int], options: ReadOptions) -> list[Category]:
    """Choose the categories to learn, or, if only boxes are read, to take boxes from; [] stands for all.

    Boxes are taken from the categories with keypoints, else from the one called `options.category_name`, else from all.
    """
    if not options.only_boxes:
        return choose_categories(categories, used, options.override)
    posed = [one for one in categories if one.get("keypoints")]
    return posed or [one for one in categories if one.get("name") == options.category_name]
