"""Load public or earlier weights into a PoseNetwork, and report what matched.

A file holds a backbone under its public names (ImageNet) or a whole network. The network is one of ours, or in the form
of Simple Baselines, HigherHRNet, DEKR or CID. Tensors are matched by name, and rows of the head by the keypoints'
names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from semipose.errors import DataError
from semipose.networks.heads import row_numbers
from semipose.networks.network import PoseNetwork
from semipose.networks.weight_file import WeightFile, read_weights
from semipose.networks.weight_match import HeadMatch, check_backbone, counts, match_head, match_names, rows_of


@dataclass(frozen=True)
class WeightsReport:
    """The result of `load_weights`: `matched` and `missing` are the network's names, `unused` the file's.

    `head_rebuilt` is true where the head, or a keypoint's row of its last layer, keeps its random values.
    """

    matched: tuple[str, ...]
    head_rebuilt: bool
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    text: str


def load_weights(network: PoseNetwork, path: str | Path) -> WeightsReport:
    """Load the file's weights into `network`, in place; `report.text` is one line for the log.

    The head keeps what `build_network` gave it where the file has none, has other channels, or does not name
    a keypoint. Raises DataError where the file cannot be read, nothing in the backbone matches,
    a shape of the backbone disagrees or a weight is not finite. The network is then unchanged.
    """
    file = read_weights(path)
    file = replace(file, tensors=network.head.ours(file.tensors))
    targets = network.state_dict()
    names = match_names(file, targets)
    found = {target: file.tensors[source] for target, source in names.items()}
    check_backbone(network, file, found, targets)
    head = match_head(network, file, found, targets)
    whole = [name for name in targets if name in found and name.startswith("backbone.")] + list(head.hidden)
    values = {name: _checked(file.path, name, found[name], targets[name].dtype) for name in whole}
    values |= _rows(network, file.path, head, found)
    for name, value in values.items():
        targets[name].copy_(value)
    return _report(network, file, {name: names[name] for name in values}, head)


def _rows(network: PoseNetwork, path: Path, head: HeadMatch, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's tensors with rows of keypoints, with the file's rows copied in."""
    values: dict[str, Tensor] = {}
    if head.keypoints:
        targets = network.state_dict()
        ours, theirs = (list(column) for column in zip(*head.keypoints, strict=True))
        for name, rows in rows_of(network).items():
            values[name] = targets[name].detach().cpu().clone()
            taken = _checked(path, name, found[name], targets[name].dtype)[row_numbers(rows, head.count, theirs)]
            values[name][row_numbers(rows, len(network.flip), ours)] = taken
    return values


def _checked(path: Path, name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a tensor to `dtype`. Check the shape first: a small file can claim a huge one."""
    if value.is_floating_point() != dtype.is_floating_point:
        raise DataError(f"{path}: {name} is {value.dtype}; expected {dtype}. Save the plain network.")
    value = value.to(dtype)
    if not torch.isfinite(value).all():
        raise DataError(f"{path}: {name} holds NaN or infinity; expected finite ones. Take another file.")
    if name.endswith("running_var") and (value < 0).any():
        raise DataError(f"{path}: {name} holds a negative variance; expected 0 or more. Take another file.")
    return value


def _report(network: PoseNetwork, file: WeightFile, taken: dict[str, str], head: HeadMatch) -> WeightsReport:
    """`taken` holds the network's name -> the file's name."""
    expected = [name for name in network.state_dict() if counts(name)]
    missing = tuple(name for name in expected if name not in taken)
    used = set(taken.values())
    unused = tuple(name for name in file.tensors if counts(name) and name not in used)
    backbone = [name for name in expected if name.startswith("backbone.")]
    lacking = [name.removeprefix("backbone.") for name in backbone if name not in taken]
    text = f"{file.path.name}: {len(backbone) - len(lacking)} of {len(backbone)} backbone tensors"
    if lacking:
        text += f" (the rest stays random: {_listed(lacking)})"
    text += f", {head.text}"
    if unused:
        text += f", {len(unused)} of the file unused ({_listed(unused)})"
    matched = tuple(name for name in expected if name in taken)
    return WeightsReport(matched, len(head.keypoints) < len(network.flip), missing, unused, text)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
