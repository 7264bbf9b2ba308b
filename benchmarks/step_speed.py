"""Training steps of every method against their limit, the bare passes of the same networks.

    python -m benchmarks.step_speed --device cpu --out benchmarks/results/step_speed-cpu.json

A step is `Trainer.step` and its batch: sampler, crops of synthetic people from the cache, views, method, backward pass,
optimizer, averages. benchmarks/limit.py defines the limit. Both are measured in turn in one process, in an order that
changes with every round; the first round is dropped; values are medians. Every method has its own process, because
earlier measurements in the same process changed the ratio by up to 0.06.

Columns:

- `efficiency`: wall time of the limit / wall time of the step
- `cpu_efficiency`: the same for CPU time; use it on a machine that is not idle
- `operators`: dispatcher calls of one update that does not log
- `blocking_reads`: calls in it for which the host would wait (benchmarks/operators.py)
- `memory_mb`: peak memory of a separate process for a few updates: on a CPU all RAM, including libraries and crops; on
  a GPU torch's tensors
- `sync_warnings`: on a GPU, the warnings of torch's sync debug mode

For networks of whole images, as parts of the step:

- `targets_ms`: rendering the targets of the labeled images
- `losses_ms`: targets, losses and the gradients of the network's output (for CID with its per-person maps)
- `losses_operators`: operators of these, without the per-person maps
"""

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

# Spinning threads take cores from other processes and make results random. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

from benchmarks.limit import Limit
from benchmarks.operators import Operators, counted, on_meta, one
from semipose import methods
from semipose.codecs.choose import scene_codec
from semipose.codecs.scene_codec import SceneCodec
from semipose.config.settings import Settings
from semipose.engine.setup import Stores, choose_precision, make_trainer
from semipose.engine.trainer import Trainer
from semipose.fields import Fields, InstanceFields
from semipose.formats.labels import load_labels
from semipose.formats.load import Data, load
from semipose.losses.heatmap import total
from semipose.methods.method import Method
from semipose.networks.backbone import Backbone
from semipose.networks.heads import DeconvHead, SceneHead
from semipose.scene import Scene
from semipose.synthetic.crowd import write_crowds
from semipose.synthetic.single import write_people
from semipose.system.files import write_json
from semipose.system.memory import peak_memory
from semipose.views.view import SceneCrops

# Progress late in a run, when ramps are complete and methods are in their last stage.
UPDATES, AT = 1000, 900
# People per stream, and updates between two readings of the clock.
BATCH, REPEAT = {"cpu": 8, "cuda": 64}, {"cpu": 1, "cuda": 20}


def main() -> None:
    """Measure every method; each row is written at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=tuple(BATCH))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=8, help="number of rounds; one more is measured and dropped")
    parser.add_argument(
        "--batch", type=int, help="labeled (and unlabeled) people per batch; default: 8 on a CPU, 64 on a GPU"
    )
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--backbone", help="backbone of higher_hrnet, dekr and cid")
    parser.add_argument("--input-size", default="256x192")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument(
        "--methods", nargs="*", choices=methods.available(), help="default: all that can train the network"
    )
    parser.add_argument(
        "--compile", choices=("default", "reduce-overhead", "max-autotune"), help="compile step and limit in this mode"
    )
    args = parser.parse_args()
    settings = Settings.from_values(
        {
            "network": args.network,
            "backbone": args.backbone,
            "input_size": args.input_size,
            "batch_size": args.batch or BATCH[args.device],
            "duration": UPDATES,
            "device": args.device,
            "precision": args.precision,
            "workers": 1,
            "log_every": UPDATES,
        }
    )
    results = {**conditions(settings, args), "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        make = crowds if settings.kind.whole_images else drawn
        data = make(Path(folder), 2 * settings.batch_size)
        for name in args.methods or methods.methods_for(args.network):
            chosen = settings.chosen("flag", "", method=name)
            times = alone(measure, chosen, data, args.rounds, args.compile)
            row = {"method": name, **times, **count(chosen, data), "memory_mb": alone(memory, chosen, data)}
            results["rows"].append(row)
            print(row, flush=True)
            write_json(args.out, results)


def alone(way: Callable[..., Any], *args: Any) -> Any:
    """Result of `way` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(way, args)


def conditions(settings: Settings, args: argparse.Namespace) -> dict[str, Any]:
    """Conditions that the results depend on."""
    device = torch.device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": args.device,
        "name": name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "wait_policy": os.environ["OMP_WAIT_POLICY"],
        "load": [round(load, 1) for load in os.getloadavg()],
        "network": settings.network + (f" on {settings.backbone}" if settings.backbone else ""),
        "input_size": list(settings.input_size),
        "batch": settings.batch_size,
        "precision": choose_precision(settings, device),
        "compile": args.compile,
        "rounds": args.rounds,
    }


def drawn(folder: Path, count: int) -> Data:
    """Synthetic people, all of them once with and once without labels."""
    labels = write_people(folder, count, seed=0, size=(320, 240))
    people = load_labels(labels, folder / "images")
    return Data(people, people, None, "none")


def crowds(folder: Path, count: int) -> Data:
    """Pictures of several synthetic people, all of them once with and once without labels."""
    labels = write_crowds(folder, count, seed=0, size=(256, 256))
    images = folder / "images"
    return load(labels, images, images, val=labels, whole_images=True)


def late(settings: Settings, data: Data, device: torch.device) -> Trainer:
    """Trainer near the end of its run."""
    trainer = make_trainer(settings, {}, data.skeleton, Stores.read(data, settings, device), Path("nowhere"))
    trainer.update = AT
    return trainer


def count(settings: Settings, data: Data) -> dict[str, Any]:
    """Count the operators of an update and of its limit, and the blocking reads.

    No count depends on the width of the networks or the number of people, so both are small.
    """
    small = settings.chosen("flag", "", width=0.25, head_channels=8, batch_size=4, device="cpu", precision="fp32")
    trainer = late(small, data, torch.device("cpu"))
    seen, limit = counted(trainer), Limit(trainer)
    with Operators() as bare:
        limit.step()
    with on_meta() as meta:
        blocking = counted(late(small.chosen("flag", "", cache="ram"), data, meta)).blocking
    row = {
        "operators": seen.count,
        "limit_operators": bare.count,
        "blocking_reads": len(blocking),
        "blocking": sorted(set(blocking)),
    }
    if small.kind.whole_images:
        row["losses_operators"] = scene_operators(trainer)
    return row


def measure(settings: Settings, data: Data, rounds: int, mode: str | None) -> dict[str, Any]:
    """Speed of the update and of its limit."""
    device = torch.device(settings.device)
    trainer = late(settings, data, device)
    one(trainer)
    limit = Limit(trainer)
    if mode is not None:
        compile_networks(trainer.method, mode)
        compile_networks(limit.method, mode)
    ways = {"step": lambda: one(trainer), "limit": limit.step}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in sorted(ways, reverse=number % 2 == 0):
            times[name].append(timed(ways[name], device))
    wall, cpu = ({name: median(row[clock] for row in rows[1:]) for name, rows in times.items()} for clock in (0, 1))
    row = {
        "images_per_s": round(trainer.batches.images / wall["step"], 3),
        "limit_images_per_s": round(trainer.batches.images / wall["limit"], 3),
        "efficiency": round(wall["limit"] / wall["step"], 3),
        "cpu_efficiency": round(cpu["limit"] / cpu["step"], 3),
        "cpu_s": round(cpu["step"], 4),
        "limit_cpu_s": round(cpu["limit"], 4),
    }
    if settings.kind.whole_images:
        row |= scene_times(trainer, rounds)
    if device.type == "cuda":
        row["sync_warnings"] = sync_warnings(trainer)
    return row


def scene_times(trainer: Trainer, rounds: int) -> dict[str, float]:
    """Milliseconds of the labeled images' targets, and of these with all supervised losses and gradients."""
    codec, fields, scene = labeled(trainer)
    ways = {"targets_ms": lambda: codec.targets(scene), "losses_ms": lambda: learn(codec, fields, scene)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            times[name].append(timed(way, trainer.device)[0])
    return {name: round(1e3 * median(each[1:]), 2) for name, each in times.items()}


def scene_operators(trainer: Trainer) -> int:
    """Operators of the labeled images' targets, losses and gradients, without the people's maps."""
    codec, fields, scene = labeled(trainer)
    if isinstance(fields, InstanceFields):
        drawn: list[Tensor] = []

        def draw(_: Tensor, shared: Tensor, cells: Tensor) -> Tensor:
            if not drawn:
                shape = (len(cells), len(codec.skeleton), *shared.shape[2:])
                drawn.append(torch.full(shape, 0.5, requires_grad=True))
            return drawn[0]

        fields = InstanceFields(fields, fields.features, fields.shared, draw)
    learn(codec, fields, scene)
    with Operators() as seen:
        learn(codec, fields, scene)
    return seen.count


def labeled(trainer: Trainer) -> tuple[SceneCodec, Fields, Scene]:
    """Output of the network for a batch of labeled images, their people, and the codec."""
    crops = trainer.batches(trainer.update).labeled
    assert isinstance(crops, SceneCrops)
    view, method = crops.weak(), trainer.method
    trained = [part for part in method.networks().values() if any(p.requires_grad for p in part.parameters())]
    fields = trained[0].train()(view.image)
    return scene_codec(fields, view.size, method.skeleton), fields, crops.scene(view, method.skeleton.flip)


def learn(codec: SceneCodec, fields: Fields, scene: Scene) -> None:
    """Compute all supervised losses and the gradient of the network's output."""
    outputs = [field.maps for field in fields.values()]
    if isinstance(fields, InstanceFields):
        outputs += [fields.features, fields.shared]
    # Keep the graph: the inputs of CID's per-person maps depend on its features, whose gradient is also needed.
    torch.autograd.grad(total(codec.losses(fields, scene)), outputs, allow_unused=True, retain_graph=True)


def memory(settings: Settings, data: Data) -> int:
    """Peak MB of this process for a few updates."""
    device = torch.device(settings.device)
    trainer = late(settings, data, device)
    for _ in range(3):
        one(trainer)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    assert peak is not None
    return round(peak / 1e6)


def compile_networks(method: Method, mode: str) -> None:
    """Compile backbones and heads in place; the dropped first round includes the compilation."""
    for part in [part for part in method.modules() if isinstance(part, Backbone | DeconvHead | SceneHead)]:
        part.compile(mode=mode)


def timed(way: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds of one call, averaged over several."""
    repeat = REPEAT[device.type]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeat):
        way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - wall) / repeat, (time.process_time() - cpu) / repeat


def sync_warnings(trainer: Trainer) -> int:
    """Number of torch's warnings that the host waited for the GPU in one update."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            one(trainer)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


if __name__ == "__main__":
    main()
