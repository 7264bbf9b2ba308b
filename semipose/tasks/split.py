"""A split file for `--split`: one json's images divided into a labeled and an unlabeled stream."""

from pathlib import Path

from semipose.data.make_split import By, make_split, read_groups
from semipose.errors import UsageError
from semipose.formats.coco import load_labels
from semipose.system.files import write_json


def split(
    labels: str | Path,
    images: str | Path,
    out: str | Path,
    labeled: float = 0.1,
    by: By = "image",
    group: str | None = None,
    seed: int = 0,
) -> str:
    """Write the split `out` of the json `labels` and return a sentence about it; see `make_split` and `read_groups`."""
    out = Path(out)
    if out.exists() and out.samefile(labels):
        raise UsageError(f"--out {out}: that is the file of the labels; choose another name.")
    if group is not None and by != "group":
        raise UsageError(f"--group {group}: says what a group is; add --by group.")
    people = load_labels(labels, images)
    groups = None if group is None else read_groups(labels, group)
    parts = make_split(people, labeled, by, seed, groups)
    write_json(out, parts)
    chosen = set(parts["labeled"])
    count = len(parts.get("labeled_people", ())) or sum(i in chosen for i in people.poses.image_ids.tolist())
    return (
        f"{out}: {len(chosen)} images with {count} people labeled, {len(parts['unlabeled'])} images unlabeled "
        f"(of {len(people.images)} images with {len(people)} labeled people)"
    )
