"""`semipose split`: divide the images of a label file into labeled and unlabeled ones, as a file for --split."""

from pathlib import Path

from semipose.data.make_split import By, make_split
from semipose.errors import UsageError
from semipose.formats import read_groups
from semipose.formats.labels import load_labels
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
    """Write a split of `labels` to `out` and return a summary; see `make_split`, and `group_images` for `group`."""
    out = Path(out)
    if out.exists() and out.samefile(labels):
        raise UsageError(f"--out {out}: this is the label file; choose another name.")
    if group is not None and by != "group":
        raise UsageError(f"--group {group}: defines groups; add --by group.")
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
