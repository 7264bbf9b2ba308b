"""What of a file of weights fits a network: by name, by shape, and the last layer by the keypoints' names."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from semipose.errors import DataError
from semipose.keypoint_names import normalized
from semipose.networks import TIMM
from semipose.networks.network import PoseNetwork
from semipose.networks.weight_file import WeightFile
from semipose.skeleton import PRESETS

# What training programs put before every name.
_WRAPPERS = ("module.", "model.", "network.", "_orig_mod.")
LAST = ("head.final_layer.weight", "head.final_layer.bias")


@dataclass(frozen=True)
class HeadMatch:
    """What to take for the head: hidden tensors, and rows (ours, the file's) of the last layer."""

    text: str
    hidden: tuple[str, ...] = ()
    rows: list[tuple[int, int]] = field(default_factory=list)


def counts(name: str) -> bool:
    """Whether a tensor is reported: old files have no counters of batches, and nothing depends on them."""
    return not name.endswith("num_batches_tracked")


def match_names(file: WeightFile, targets: dict[str, Tensor]) -> dict[str, str]:
    """The network's name -> the file's name of the same tensor."""
    names: dict[str, str] = {}
    for source in file.tensors:
        bare = source
        while bare.startswith(_WRAPPERS):
            bare = bare.partition(".")[2]
        if bare.startswith("keypoint_head."):
            bare = bare.removeprefix("keypoint_")
        places = (bare, f"backbone.{bare}", f"backbone.model.{bare}", f"head.{bare}")
        target = next((name for name in places if name in targets), None)
        if target is None:
            continue
        if target in names:
            raise DataError(
                f"{file.path}: {names[target]!r} and {source!r} are both the network's {target!r}; expected "
                "one. Save the network you mean on its own."
            )
        names[target] = source
    return names


def check_backbone(
    network: PoseNetwork, file: WeightFile, found: dict[str, Tensor], targets: dict[str, Tensor]
) -> None:
    """Raise DataError unless something of the backbone is there and all of that has the right shape."""
    ours, theirs = _described(network.config), _described(file.config)
    backbone = [name for name in found if name.startswith("backbone.")]
    if not any(map(counts, backbone)):
        sample = next(iter(targets)).removeprefix("backbone.")
        listed = ", ".join(list(file.tensors)[:3]) or "no tensor at all"
        raise DataError(
            f"{file.path}: nothing in it belongs to the backbone of {ours}. Found {theirs or listed}; "
            f"expected names such as {sample}. Choose the --network these weights were made for; from a run "
            "take checkpoints/best-NAME.safetensors."
        )
    wrong = [name for name in backbone if found[name].shape != targets[name].shape]
    if wrong:
        first, held = wrong[0], f" The file holds {theirs}." if theirs else ""
        raise DataError(
            f"{file.path}: {len(wrong)} of {len(backbone)} backbone tensors have another shape than in "
            f"{ours}: {first.removeprefix('backbone.')} is {tuple(found[first].shape)}, expected "
            f"{tuple(targets[first].shape)}.{held} {_remedy(network, file.path, found, targets)}"
        )


def _remedy(network: PoseNetwork, path: Path, found: dict[str, Tensor], targets: dict[str, Tensor]) -> str:
    stem = next(iter(targets))
    fixed = str(network.config["name"]).startswith(TIMM)
    if not fixed and stem in found and found[stem].ndim and found[stem].shape[0] != targets[stem].shape[0]:
        width = float(network.config["width"]) * found[stem].shape[0] / targets[stem].shape[0]
        return f"They look like width {width:.3g}: give --width {width:.3g}."
    return f"Choose the --network that {path.name} was made for."


def _described(config: dict[str, object]) -> str:
    return f"{config['name']} of width {config.get('width', 1.0)}" if "name" in config else ""


def match_head(
    network: PoseNetwork, file: WeightFile, found: dict[str, Tensor], targets: dict[str, Tensor]
) -> HeadMatch:
    """All hidden layers of the head or, where one does not fit, nothing; and the rows of known keypoints."""
    count = len(targets[LAST[1]])
    rebuilt = f"head rebuilt for {count} keypoints"
    if not any(name.startswith("head.") for name in found):
        return HeadMatch(f"{rebuilt} (the file has none)")
    hidden = [name for name in targets if name.startswith("head.") and name not in LAST]
    if any(counts(name) and name not in found for name in hidden):
        return HeadMatch(f"{rebuilt} (the file's lacks layers)")
    taken = tuple(name for name in hidden if name in found)
    if any(found[name].shape != targets[name].shape for name in taken):
        return HeadMatch(f"{rebuilt} (the file's has other channels)")
    rows, assumed = _match_rows(network, file, found, targets)
    if len(rows) == count:
        return HeadMatch(f"head of {count} keypoints taken{assumed}", taken, rows)
    return HeadMatch(f"{rebuilt} ({len(rows)} taken by name{assumed})", taken, rows)


def _match_rows(
    network: PoseNetwork, file: WeightFile, found: dict[str, Tensor], targets: dict[str, Tensor]
) -> tuple[list[tuple[int, int]], str]:
    """Rows (ours, the file's) of keypoints of the same name, and what had to be assumed about the file's."""
    weight, bias = (found.get(name) for name in LAST)
    if weight is None or bias is None or weight.shape[1:] != targets[LAST[0]].shape[1:]:
        return [], ""
    names, assumed = file.keypoints, ""
    coco = PRESETS["coco_17"].keypoints
    if not names and len(weight) == len(coco):
        # Public pose files do not name their keypoints; those with 17 are COCO's by custom.
        names, assumed = coco, ", assuming COCO's order"
    if len(weight) != len(names) or bias.shape != (len(names),):
        return [], ""
    theirs = {normalized(name): row for row, name in enumerate(names)}
    ours = enumerate(map(normalized, network.keypoints))
    return [(row, theirs[name]) for row, name in ours if name in theirs], assumed
