"""Cost of views: CPU time as a share of a ResNet-18 training step, and operators.

    python -m benchmarks.views_speed --out benchmarks/results/views_speed.json

Each operation is timed on a whole batch (64 people, 256x192) with one thread. The step is that of the bare network:
forward, loss, backward and fused Adam on resident tensors, channels_last. To save time its passes are timed at a
smaller batch (`--step-batch`) and multiplied, as their time is linear in the batch; the optimizer counts once.

Operations and step take turns in one process, and the first round is dropped. Shares are medians over rounds. Operators
are the dispatcher calls of one call, for any batch.
"""

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.operators import Operators
from semipose.losses.heatmap import heatmap_loss
from semipose.networks.build import build_network
from semipose.pose.skeleton import PRESETS
from semipose.system.files import write_json
from semipose.views.color import jitter
from semipose.views.cut_occlude import cut_occlude
from semipose.views.keypoint_mix import keypoint_mix
from semipose.views.mix import cutmix, mixup
from semipose.views.occlude import cutout, joint_cutout
from semipose.views.policies import augment
from semipose.views.random_key import RandomKey
from semipose.views.tiles import Tiles
from semipose.views.view import Augmentation, Crops

SIZE, CROP = (256, 192), (384, 288)
SKELETON = PRESETS["coco_17"]
LIMITS = {"rectangles": 0.03, "color": 0.10, "view": None}


def main() -> None:
    """Time all operations in turn and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--step-batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    views, (passes, update) = operations(args.batch), training_step(args.step_batch)
    scale = args.batch / args.step_batch
    rounds = [
        {"step": seconds(passes) * scale + seconds(update), **{name: seconds(run) for name, (_, run) in views.items()}}
        for _ in range(args.rounds + 1)
    ][1:]
    rows = [row(name, kind, run, rounds) for name, (kind, run) in views.items()]
    settings = {"batch": args.batch, "step_batch": args.step_batch, "size": SIZE, "rounds": args.rounds, "threads": 1}
    whole = median(one["step"] for one in rounds)
    versions = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
    write_json(args.out, {"settings": settings, "versions": versions, "step_seconds": whole, "rows": rows})
    for found in rows:
        print("{name:16} {share:8.2%} of a step {operators:4} operators  {verdict}".format(**found))


def operations(batch: int) -> dict[str, tuple[str, Callable[[], object]]]:
    """Name -> kind and call of each timed operation."""
    images = torch.randint(0, 256, (batch, *CROP, 3), dtype=torch.uint8)
    keypoints = torch.rand(batch, len(SKELETON), 2) * torch.tensor([CROP[1], CROP[0]])
    visible = torch.full((batch, len(SKELETON)), 2, dtype=torch.uint8)
    draw = RandomKey(0, 0, "labeled", batch, batch)
    crops = Crops(images, SIZE, 1.0, Augmentation(), draw, keypoints, visible)
    weak = crops.weak()
    image, there = weak.image, crops.labels(weak, SKELETON.flip)
    return {
        "plain": ("view", crops.canonical),
        "weak": ("view", crops.weak),
        "strong": ("view", lambda: crops.strong(weak)),
        "labels": ("view", lambda: crops.labels(weak, SKELETON.flip)),
        "cutout": ("rectangles", lambda: cutout(image, draw, "c")),
        "joint_cutout": ("rectangles", lambda: joint_cutout(image, there, draw, "c")),
        "visible_cutout": ("rectangles", lambda: joint_cutout(image, there, draw, "c", exists=visible)),
        "cutmix": ("rectangles", lambda: cutmix(image, draw, "c")),
        "keypoint_mix": ("rectangles", lambda: keypoint_mix(image, there, draw, "c")),
        "cut_occlude": ("rectangles", lambda: cut_occlude(image, there, draw, "c")),
        "mixup": ("rectangles", lambda: mixup(image, draw, "c")),
        "tiles": ("rectangles", lambda: Tiles.sampled(draw, "c", (4, 3)).mix(image)),
        "jitter": ("color", lambda: jitter(image, draw, "c", 0.4)),
        "randaugment": ("color", lambda: augment(image, draw, "c", "randaugment")),
        "trivialaugment": ("color", lambda: augment(image, draw, "c", "trivialaugment")),
    }


def training_step(batch: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Passes of the bare network, and the optimizer's part, of one step."""
    network = build_network("resnet18", SKELETON).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(batch, 3, *SIZE).contiguous(memory_format=torch.channels_last)
    target = torch.rand(batch, len(SKELETON), SIZE[0] // 4, SIZE[1] // 4)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def passes() -> None:
        optimizer.zero_grad()
        heatmap_loss(network(image)["heatmap"].maps, target, torch.ones(())).backward()

    return passes, optimizer.step


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def row(name: str, kind: str, call: Callable[[], object], rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Results of one operation."""
    share, limit = median(one[name] / one["step"] for one in rounds), LIMITS[kind]
    with Operators() as counting:
        call()
    verdict = "" if limit is None else f"({'within' if share <= limit else 'ABOVE'} {limit:.0%})"
    return {
        "name": name,
        "kind": kind,
        "seconds": median(one[name] for one in rounds),
        "share": share,
        "limit": limit,
        "operators": counting.count,
        "verdict": verdict,
    }


if __name__ == "__main__":
    main()
