"""Match a file of weights to a network: by name, by shape, and rows of keypoints by the keypoints' names."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from semipose.errors import DataError
from semipose.networks import TIMM
from semipose.networks.heads import Rows, row_count
from semipose.networks.network import PoseNetwork
from semipose.networks.weight_file import WeightFile
from semipose.pose.names import normalized
from semipose.pose.skeleton import PRESETS

# Prefixes that training programs put before every name.
# "1." is that of HigherHRNet, trained in half precision.
_WRAPPERS = ("module.", "model.", "network.", "_orig_mod.", "1.")


@dataclass(frozen=True)
class HeadMatch:
    """The tensors to load into the head: whole ones (`hidden`), and pairs of keypoints for those with rows.

    A pair holds our keypoint's index and that of the file, whose head has `count` keypoints.
    """

    text: str
    hidden: tuple[str, ...] = ()
    keypoints: list[tuple[int, int]] = field(default_factory=list)
    count: int = 0


def counts(name: str) -> bool:
    """Tell whether a tensor is reported: old files have no batch counters, and nothing depends on them."""
    return not name.endswith("num_batches_tracked")


def match_names(file: WeightFile, targets: dict[str, Tensor]) -> dict[str, str]:
    """Map the network's tensor names to the file's."""
    names: dict[str, str] = {}
    for source in file.tensors:
        bare = source
        while bare.startswith(_WRAPPERS):
            bare = bare.partition(".")[2]
        if bare.startswith("keypoint_head."):
            bare = bare.removeprefix("keypoint_")
        candidates = (bare, f"backbone.{bare}", f"backbone.model.{bare}", f"head.{bare}")
        target = next((name for name in candidates if name in targets), None)
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
    """Raise DataError unless the file has tensors of the backbone, all of the right shape."""
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
    stem, flag = next(iter(targets)), "backbone" if "backbone" in network.config else "network"
    fixed = str(network.config.get("backbone", network.config["name"])).startswith(TIMM)
    if not fixed and stem in found and found[stem].ndim and found[stem].shape[0] != targets[stem].shape[0]:
        width = float(network.config["width"]) * found[stem].shape[0] / targets[stem].shape[0]
        return f"They look like width {width:.3g}: give --width {width:.3g}."
    return f"Choose the --{flag} that {path.name} was made for."


def _described(config: dict[str, object]) -> str:
    if "name" not in config:
        return ""
    on = f" on {config['backbone']}" if "backbone" in config else ""
    return f"{config['name']}{on} of width {config.get('width', 1.0)}"


def rows_of(network: PoseNetwork) -> dict[str, Rows]:
    """Return the layouts of the head's tensors with rows of keypoints, by the network's names."""
    return {f"head.{name}": rows for name, rows in network.head.rows.items()}


def match_head(
    network: PoseNetwork, file: WeightFile, found: dict[str, Tensor], targets: dict[str, Tensor]
) -> HeadMatch:
    """Match all hidden layers of the head, or none where one does not fit, and the rows of known keypoints."""
    count = len(network.flip)
    rebuilt = f"head rebuilt for {count} keypoints"
    if not any(name.startswith("head.") for name in found):
        return HeadMatch(f"{rebuilt} (the file has none)")
    with_rows = rows_of(network)
    hidden = [name for name in targets if name.startswith("head.") and name not in with_rows]
    if any(counts(name) and name not in found for name in hidden):
        return HeadMatch(f"{rebuilt} (the file's lacks layers)")
    taken = tuple(name for name in hidden if name in found)
    if any(found[name].shape != targets[name].shape for name in taken):
        return HeadMatch(f"{rebuilt} (the file's has other channels)")
    theirs = _count(with_rows, found, targets)
    names, assumed = _names(network, file, theirs)
    places = {normalized(name): place for place, name in enumerate(names)}
    ours = enumerate(map(normalized, network.keypoints))
    pairs = [(place, places[name]) for place, name in ours if name in places]
    if len(pairs) == count:
        return HeadMatch(f"head of {count} keypoints taken{assumed}", taken, pairs, theirs)
    return HeadMatch(f"{rebuilt} ({len(pairs)} taken by name{assumed})", taken, pairs, theirs)


def _count(with_rows: dict[str, Rows], found: dict[str, Tensor], targets: dict[str, Tensor]) -> int:
    """Return the number of keypoints of the file's head; 0 where its tensors disagree or have other channels."""
    first, rows = next(iter(with_rows.items()))
    if any(name not in found or not found[name].ndim for name in with_rows):
        return 0
    count = (len(found[first]) - row_count(rows, 0)) // (row_count(rows, 1) - row_count(rows, 0))
    fits = all(
        found[name].shape == (row_count(rows, count), *targets[name].shape[1:]) for name, rows in with_rows.items()
    )
    return count if fits else 0


def _names(network: PoseNetwork, file: WeightFile, count: int) -> tuple[tuple[str, ...], str]:
    """Return the keypoints of the file's head, and the assumption made about them, as text."""
    if file.keypoints:
        return (file.keypoints if len(file.keypoints) == count else ()), ""
    # Public pose files do not name their keypoints. Those with 17 are COCO's by custom, and detector-free networks
    # were published with 14 for CrowdPose alone.
    coco, crowd = PRESETS["coco_17"].keypoints, PRESETS["crowdpose_14"].keypoints
    if count == len(coco):
        return coco, ", assuming COCO's order"
    if count == len(crowd) and network.detector_free:
        return crowd, ", assuming CrowdPose's order"
    return (), ""
