"""Make a trainer of settings and data: device, precision, networks, crops, number of updates."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from semipose import methods
from semipose.config.settings import Settings
from semipose.crops.places import Sharing, choose_cache
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.engine.batches import Batches, Stream
from semipose.engine.trainer import Trainer
from semipose.errors import UsageError
from semipose.formats.load import Data
from semipose.inference.kind import NetworkKind, kind_of
from semipose.inference.options import EvalOptions
from semipose.methods.method import Build, Method
from semipose.metrics.score import Score
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.networks.weights import WeightsReport, load_weights
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.system import processes
from semipose.system.memory import keep_freed_memory, peak_memory
from semipose.views.random_key import generator
from semipose.views.view import Augmentation

# Updates that are timed, on a trainer of their own, to convert a duration in hours to a number of updates.
_TIMED_UPDATES = 10


@dataclass
class Stores:
    """The crops of a run; `val` is None without validation people, `unlabeled` without unlabeled images.

    Of several processes only the first has `val`: it evaluates for all.
    """

    labeled: CropStore
    unlabeled: CropStore | None
    val: CropStore | None

    @classmethod
    def read(cls, data: Data, settings: Settings, device: torch.device) -> "Stores":
        """Decode the data; unreadable labeled images are refused, unlabeled ones left out and counted."""
        kind = kind_of(settings.network)
        data = kind.training_data(data)
        labels = {name: people for name in ("labeled", "val") if (people := getattr(data, name)) is not None}
        rows = {name: kind.store_rows(people) for name, people in labels.items()}
        rows |= {} if data.unlabeled is None else {"unlabeled": data.unlabeled}

        def store(name: str) -> CropStore | None:
            if name not in rows or len(rows[name]) == 0:
                return None
            options = _store_options(kind, rows, name, settings, device)
            return kind.store(rows[name], settings.input_size, truth=labels.get(name), **options)

        labeled = store("labeled")
        if labeled is None:
            raise UsageError("there are no labeled people left to train on; give more labels or a smaller hold-out")
        unlabeled = store("unlabeled")
        processes.refuse_unequal("unlabeled images that cannot be decoded", unlabeled.unreadable if unlabeled else [])
        return cls(labeled, unlabeled, store("val") if processes.is_first() else None)

    def memory(self) -> dict[str, Any]:
        """Return where each stream's crops are kept, their size and the peak memory of this process, in bytes."""
        stores = {"labeled": self.labeled, "unlabeled": self.unlabeled, "val": self.val}
        device = self.labeled.device
        return {
            "crops": {name: {"kept": one.kept, "bytes": one.bytes} for name, one in stores.items() if one is not None},
            "peak_ram": peak_memory(),
            "peak_device": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        }


def _store_options(
    kind: NetworkKind, rows: dict[str, People], name: str, settings: Settings, device: torch.device
) -> dict[str, Any]:
    """Return the options of the store of stream `name`: where its crops are kept, and how processes share them."""
    people = rows[name]
    others = [stream for stream in rows.values() if stream is not people]
    options: dict[str, Any] = {
        "cache": settings.cache,
        "device": device,
        "workers": settings.workers or max(1, (os.cpu_count() or 1) // processes.local_count()),
        "strict": name != "unlabeled",
        "disk_limit": int(settings.cache_limit * 1e9),
        "other_streams": others,
    }
    # Counted over all machines: each may run another number of processes, and all take part in what follows. Only the
    # first process evaluates, so it reads the validation people alone.
    if name == "val" or processes.count() == 1:
        return options
    if settings.cache == "auto":
        # Chosen once: what the first process keeps in memory leaves less free memory for the others to measure.
        limit, frame = options["disk_limit"], kind.frame(settings.input_size)
        chosen = choose_cache(len(people), frame, device, limit, sum(map(len, others)))
        options["cache"] = processes.from_first(chosen)
    return options | {"sharing": Sharing(processes.local_rank() == 0, processes.from_local_first)}


def choose_precision(settings: Settings, device: torch.device) -> str:
    """Return fp32 or bf16: `auto` is bf16 on a CUDA device that has it; on CPUs its backward pass is too slow."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def builder(settings: Settings, skeleton: Skeleton, report: Callable[[str], None] | None = None) -> Build:
    """Return `build(role)` for a method, see `Build`: it makes the run's network, or another one, with weights.

    `report` receives a line on the weights that matched, once.
    """
    reported: set[str] = set()

    def build(role: str, *, network: str | None = None, weights: Path | None = None) -> PoseNetwork:
        seed = int(generator(settings.seed, "network", role).initial_seed())
        name = network or settings.network
        built = build_network(
            name,
            skeleton,
            width=settings.width,
            head_channels=settings.head_channels,
            seed=seed,
            **settings.network_options(name),
        )
        file = weights or (settings.weights if name == settings.network else None)
        loaded = None if file is None else load_weights(built, file)
        if settings.freeze and name == settings.network:
            freeze(built, settings.freeze, loaded)
        if loaded is not None and report is not None and loaded.text not in reported:
            reported.add(loaded.text)
            report(loaded.text)
        return built

    return build


def freeze(network: PoseNetwork, stages: int, loaded: WeightsReport | None) -> None:
    """Freeze the first `stages` stages of the backbone. Raises UsageError if one of their tensors was not loaded."""
    network.backbone.freeze(stages)
    names = [f"backbone.{name}" for name in network.backbone.frozen_names()]
    random = names if loaded is None else [name for name in names if name in loaded.missing]
    if random:
        raise UsageError(
            f"--freeze {stages} would keep random weights: {len(random)} of {len(names)} tensors of these stages are "
            f"not in the weights file, such as {random[0]}. Give another file by --weights, or freeze fewer stages."
        )


def make_method(
    settings: Settings,
    options: dict[str, Any],
    skeleton: Skeleton,
    device: torch.device,
    report: Callable[[str], None] | None = None,
) -> Method:
    """Return the method of `settings` with its `options`, on the device."""
    methods.refuse_network(settings.method, settings.network)
    typed = methods.typed_options(settings.method, options)
    method: Method = methods.load(settings.method)(builder(settings, skeleton, report), skeleton, **typed)
    if settings.deploy is not None and settings.deploy not in method.networks():
        names = ", ".join(method.networks())
        raise UsageError(f"--deploy {settings.deploy}: {settings.method} has no such network; it has {names}")
    return method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def make_batches(stores: Stores, settings: Settings, uses_unlabeled: bool) -> Batches:
    """Return both streams of batches, this process's part of them."""
    crops, part, parts = kind_of(settings.network).crops, processes.rank(), processes.count()
    policy = Augmentation(
        settings.rotation,
        settings.scale,
        settings.flip,
        settings.color,
        settings.color_strength,
        shift=settings.view_shift,
    )
    size, seed = settings.batch_size, settings.seed
    labeled = Stream(crops, stores.labeled, "labeled", size, seed, policy, True, part, parts)
    if not uses_unlabeled:
        return Batches(labeled, None)
    if stores.unlabeled is None:
        raise UsageError(
            f"--method {settings.method} learns from unlabeled images and there are none: add --unlabeled FOLDER (or "
            "--split FILE), or use --method supervised."
        )
    size = settings.unlabeled_batch_size or settings.batch_size
    return Batches(labeled, Stream(crops, stores.unlabeled, "unlabeled", size, seed, policy, False, part, parts))


def scorer(
    store: CropStore | None, settings: Settings, skeleton: Skeleton, precision: str = "fp32", resamples: int = 0
) -> Callable[[PoseNetwork], Score] | None:
    """Return the function that scores a network on the labeled people of `store`; None without a store."""
    if store is None:
        return None
    predict, kind, truth = predictor(store, settings, skeleton, precision), kind_of(settings.network), store.truth

    def evaluate(network: PoseNetwork) -> Score:
        return kind.score(predict(network), truth, skeleton, resamples)

    return evaluate


def predictor(
    store: CropStore, settings: Settings, skeleton: Skeleton, precision: str = "fp32"
) -> Callable[[PoseNetwork], Poses]:
    """Return the function that predicts the poses of `store` as a run evaluates its networks."""
    kind = kind_of(settings.network)
    options = EvalOptions(flip_test=settings.flip_test, batch_size=kind.batch_size, decode=settings.decode)

    def predict(network: PoseNetwork) -> Poses:
        with torch.autocast(store.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return kind.predict(network, store, skeleton, options)

    return predict


def make_trainer(
    settings: Settings,
    options: dict[str, Any],
    skeleton: Skeleton,
    stores: Stores,
    folder: Path,
    updates: int | None = None,
    report: Callable[[str], None] | None = None,
    **phase: Any,
) -> Trainer:
    """Return a trainer of the method of `settings` with its `options` on `stores`.

    `updates` overrides the settings' duration, `report` receives a line on the weights, and `phase` are the `start`,
    `end` and `event` of `Trainer`.
    """
    device = stores.labeled.device
    if device.type == "cpu":
        keep_freed_memory()
    precision = choose_precision(settings, device)
    batches = make_batches(stores, settings, methods.load(settings.method).uses_unlabeled)
    evaluate = scorer(stores.val, settings, skeleton, precision)

    def trainer(count: int, report: Callable[[str], None] | None, **phase: Any) -> Trainer:
        method = make_method(settings, options, skeleton, device, report)
        if method.needs_validation and processes.is_first() and evaluate is None:
            raise UsageError(f"{method.needs_validation} needs people to validate on, and there are none: give --val.")
        if batches.unlabeled is not None:
            parts = processes.count() * settings.accumulate
            method.check(settings.input_size, batches.unlabeled.batch_size // parts)
        return Trainer(method, batches, settings, folder, count, device, precision, evaluate, settings.method, **phase)

    if updates is None:
        timed = settings.duration.unit == "seconds"
        seconds = _seconds_per_update(trainer(_TIMED_UPDATES, None)) if timed else 0.0
        # Each process measures its own time; all must train for the same number of updates.
        updates = processes.from_first(settings.duration.updates(batches.updates_per_epoch, seconds))
    return trainer(updates, report, **phase)


def _seconds_per_update(trainer: Trainer) -> float:
    """Time an update on a trainer that is not used further, so that the real one starts untouched."""
    for update in range(_TIMED_UPDATES):
        if update == 2:  # the first updates pay for memory and kernel choices
            start = _now(trainer.device)
        trainer.step(trainer.batches(update))
    return (_now(trainer.device) - start) / (_TIMED_UPDATES - 2)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
