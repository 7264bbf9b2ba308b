"""Data in, findings out: what is wrong or worth knowing before training, each with its remedy."""

from collections.abc import Callable, Iterator

from semipose.checks.files import copies, unreadable
from semipose.checks.finding import Finding
from semipose.checks.labels import check_labels
from semipose.checks.skeleton import check_skeleton
from semipose.data.splits import MIN_LABELED_FOR_VAL
from semipose.formats.load import Data

__all__ = ["Finding", "check"]

FEW = 20
"""With fewer labeled people a network learns little but their background."""


def check(data: Data, quick: bool) -> list[Finding]:
    """Everything found in `data`, errors first. `quick` leaves out what decodes every labeled image.

    Errors make a run's result worthless; warnings are likely mistakes; notes say what follows from the data. Labels are
    looked at of people who have some.
    """
    parts: list[Callable[[Data], Iterator[Finding]]] = [_amounts, copies, _skeleton, _labels]
    if not quick:
        parts.append(unreadable)
    found = [finding for part in parts for finding in part(data)]
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.level))


def _skeleton(data: Data) -> Iterator[Finding]:
    return check_skeleton(data.skeleton)


def _labels(data: Data) -> Iterator[Finding]:
    for name, people in (("labeled", data.labeled), ("validation", data.val)):
        if people is not None:
            yield from check_labels(people.select(people.labeled), data.skeleton, name)


def _amounts(data: Data) -> Iterator[Finding]:
    labeled = int(data.labeled.labeled.sum())
    if labeled < FEW:
        yield Finding(
            "warning",
            f"only {labeled} people are labeled",
            f"Label at least {FEW}, of different people, poses and places, before trusting a result.",
        )
    if data.val is None:
        yield Finding(
            "note",
            f"there is no validation set ({data.val_source})",
            f"Pass --val, or label at least {MIN_LABELED_FOR_VAL} in several images; else accuracy is not measured.",
        )
    elif (held := int(data.val.labeled.sum())) < FEW:
        yield Finding(
            "note",
            f"only {held} people are in the validation set",
            "Expect wide intervals; label more people for --val.",
        )
    what, labeled = ("images", len(data.labeled.images)) if data.whole_images else ("people", labeled)
    if data.unlabeled is not None and len(data.unlabeled) < labeled:
        yield Finding(
            "note",
            f"there are fewer unlabeled {what} ({len(data.unlabeled)}) than labeled ones ({labeled})",
            "Unlabeled images help most when there are many more of them.",
        )
