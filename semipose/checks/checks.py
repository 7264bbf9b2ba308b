"""Run all checks on the data of a run."""

from collections.abc import Callable, Iterator

from semipose.checks.files import find_copies, find_unreadable
from semipose.checks.finding import Finding
from semipose.checks.labels import check_labels, check_skeleton
from semipose.data.splits import MIN_LABELED_FOR_VAL
from semipose.formats.load import Data
from semipose.pose.names import counted, plural

__all__ = ["Finding", "check"]

MIN_LABELED = 20
"""With fewer labeled people a network learns little but their background."""


def check(data: Data, quick: bool) -> list[Finding]:
    """Return all findings on `data`, errors first; `quick` skips the checks that decode every labeled image.

    Errors make the result of a run worthless, warnings are likely mistakes, notes are consequences to know.
    """
    checks: list[Callable[[Data], Iterator[Finding]]] = [_amounts, find_copies, _skeleton, _labels]
    if not quick:
        checks.append(find_unreadable)
    found = [finding for one in checks for finding in one(data)]
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.level))


def _skeleton(data: Data) -> Iterator[Finding]:
    return check_skeleton(data.skeleton)


def _labels(data: Data) -> Iterator[Finding]:
    for stream, people in (("labeled", data.labeled), ("validation", data.val)):
        if people is not None:
            yield from check_labels(people.select(people.labeled), data.skeleton, stream)


def _amounts(data: Data) -> Iterator[Finding]:
    category = data.skeleton.name
    labeled = int(data.labeled.labeled.sum())
    if labeled < MIN_LABELED:
        yield Finding(
            "warning",
            f"only {labeled} labeled {plural(category)}",
            f"Label at least {MIN_LABELED}, in varied poses and places, before relying on a result.",
        )
    if data.val is None:
        yield Finding(
            "note",
            f"there is no validation set ({data.val_source.removeprefix('none: ')})",
            f"Pass --val, or label at least {MIN_LABELED_FOR_VAL} in several images; else accuracy is not measured.",
        )
    elif (held := int(data.val.labeled.sum())) < MIN_LABELED:
        yield Finding(
            "note",
            f"only {counted(held, category)} in the validation set",
            "Expect wide intervals; label more for --val.",
        )
    noun, labeled = ("images", len(data.labeled.images)) if data.whole_images else (plural(category), labeled)
    if data.unlabeled is not None and len(data.unlabeled) < labeled:
        yield Finding(
            "note",
            f"there are fewer unlabeled {noun} ({len(data.unlabeled)}) than labeled ones ({labeled})",
            "Unlabeled images help most when there are many more of them.",
        )
