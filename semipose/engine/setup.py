"""From settings and data to a trainer that can run: device, precision, networks, crops, number of updates."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from semipose import methods
from semipose.config.settings import Settings
from semipose.crops.store import CropStore, choose_cache
from semipose.crops.whole_images import WholeImageStore, one_row_per_image
from semipose.data.people import People
from semipose.engine.batches import Batches, Stream
from semipose.engine.trainer import Trainer
from semipose.errors import UsageError
from semipose.formats.load import Data
from semipose.inference.predict import find_people, predict_people, score_found
from semipose.methods.method import Build, Method
from semipose.metrics.score import Score
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.networks.weights import load_weights
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.system import processes
from semipose.system.memory import keep_freed_memory, peak_memory
from semipose.views.random_key import generator
from semipose.views.view import Augmentation

# Updates that are timed, and thrown away, before a duration in hours becomes a number of updates.
_TIMED_UPDATES = 10
# How far whole images are moved, as a share of their sides: what HigherHRNet does.
_SHIFT = 0.2


@dataclass
class Stores:
    """The crops of a run; `val` is None where nobody was held out, `unlabeled` where there are none.

    Of several processes only the first has `val`: it evaluates for all.
    """

    labeled: CropStore
    unlabeled: CropStore | None
    val: CropStore | None

    @classmethod
    def read(cls, data: Data, settings: Settings, device: torch.device) -> "Stores":
        """Decode the data; unreadable labeled images are refused, unlabeled ones left out and counted."""
        workers = settings.workers or max(1, (os.cpu_count() or 1) // processes.local_count())
        size, limit = (settings.input_size[0], settings.input_size[1]), int(settings.cache_limit * 1e9)
        rows, labels = _rows(data, settings)

        def store(name: str, strict: bool = True, by_all: bool = True) -> CropStore | None:
            people, cache = rows.get(name), settings.cache
            if people is None or len(people) == 0:
                return None
            beside = [part for part in rows.values() if part is not people]
            make = partial(WholeImageStore, everybody=labels.get(name)) if settings.detector_free else CropStore
            # Counted over all machines: on another there may be more processes, and all take part in what follows.
            if not by_all or processes.count() == 1:
                return make(people, size, cache, device, workers, strict, limit, beside)
            if cache == "auto":
                # What the first keeps in memory leaves less for the others to see.
                frame = (WholeImageStore if settings.detector_free else CropStore).frame_of(size)
                cache = processes.from_first(choose_cache(len(people), frame, device, limit, sum(map(len, beside))))
            first, agree = processes.local_rank() == 0, processes.from_local_first
            return make(people, size, cache, device, workers, strict, limit, beside, first, agree)

        labeled = store("labeled")
        if labeled is None:
            raise UsageError("there are no labeled people left to train on; give more labels or a smaller hold-out")
        unlabeled = store("unlabeled", strict=False)
        processes.refuse_unequal("unlabeled images that cannot be decoded", unlabeled.unreadable if unlabeled else [])
        return cls(labeled, unlabeled, store("val", by_all=False) if processes.is_first() else None)

    def memory(self) -> dict[str, Any]:
        """Where each stream's crops are, what they take, and the most memory this process had so far; in bytes."""
        stores = {"labeled": self.labeled, "unlabeled": self.unlabeled, "val": self.val}
        device = self.labeled.device
        return {
            "crops": {name: {"kept": one.kept, "bytes": one.bytes} for name, one in stores.items() if one is not None},
            "peak_ram": peak_memory(),
            "peak_device": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        }


def _rows(data: Data, settings: Settings) -> tuple[dict[str, People], dict[str, People]]:
    """Stream -> whose crops it has, one a row; and for whole images those of the labeled streams who are in them."""
    data = data.for_whole_images() if settings.detector_free else data
    labeled = {name: people for name in ("labeled", "val") if (people := getattr(data, name)) is not None}
    rows = {name: one_row_per_image(people) for name, people in labeled.items()} if settings.detector_free else labeled
    return rows | ({} if data.unlabeled is None else {"unlabeled": data.unlabeled}), labeled


def choose_precision(settings: Settings, device: torch.device) -> str:
    """`auto` is bf16 on a CUDA device that has it, else fp32: on CPUs a slower backward pass eats the gain."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def builder(settings: Settings, skeleton: Skeleton, report: Callable[[str], None] | None = None) -> Build:
    """`build(role)` for a method, see `Build`: the run's network with its weights, or another one with others.

    `report` gets the line that says which weights matched, once.
    """
    told: set[str] = set()

    def build(role: str, *, network: str | None = None, weights: Path | None = None) -> PoseNetwork:
        seed = int(generator(settings.seed, "network", role).initial_seed())
        name = network or settings.network
        # The parts of a detector-free network are those of the run's own kind only.
        parts = settings.network_options() if name == settings.network else {}
        built = build_network(
            name, skeleton, width=settings.width, head_channels=settings.head_channels, seed=seed, **parts
        )
        file = weights or (settings.weights if name == settings.network else None)
        if file is not None:
            text = load_weights(built, file).text
            if report is not None and text not in told:
                told.add(text)
                report(text)
        return built

    return build


def make_method(
    settings: Settings,
    options: dict[str, Any],
    skeleton: Skeleton,
    device: torch.device,
    report: Callable[[str], None] | None = None,
) -> Method:
    """The method of `settings` with its `options`, on the device."""
    methods.refuse_network(settings.method, settings.network)
    typed = methods.typed_options(settings.method, options)
    method: Method = methods.load(settings.method)(builder(settings, skeleton, report), skeleton, **typed)
    if settings.deploy is not None and settings.deploy not in method.networks():
        there = ", ".join(method.networks())
        raise UsageError(f"--deploy {settings.deploy}: {settings.method} has no such network; it has {there}")
    return method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def make_batches(stores: Stores, settings: Settings, uses_unlabeled: bool) -> Batches:
    """Both streams of batches, this process's part of them."""
    part, parts = processes.rank(), processes.count()
    policy = Augmentation(
        settings.rotation,
        settings.scale,
        settings.flip,
        settings.color,
        settings.color_strength,
        shift=_SHIFT * settings.detector_free if settings.shift is None else settings.shift,
    )
    labeled = Stream(stores.labeled, "labeled", settings.batch_size, settings.seed, policy, True, part, parts)
    if not uses_unlabeled:
        return Batches(labeled, None)
    if stores.unlabeled is None:
        raise UsageError(
            f"--method {settings.method} learns from unlabeled images and there are none: add --unlabeled FOLDER (or "
            "--split FILE), or use --method supervised."
        )
    size = settings.unlabeled_batch_size or settings.batch_size
    return Batches(labeled, Stream(stores.unlabeled, "unlabeled", size, settings.seed, policy, False, part, parts))


def scorer(
    store: CropStore | None, settings: Settings, skeleton: Skeleton, precision: str = "fp32", resamples: int = 0
) -> Callable[[PoseNetwork], Score] | None:
    """The function that scores a network on the people of `store`; None without people."""
    if store is None:
        return None

    predict = predictor(store, settings, skeleton, precision)

    def evaluate(network: PoseNetwork) -> Score:
        return score_found(predict(network), store, skeleton, resamples)

    return evaluate


def predictor(
    store: CropStore, settings: Settings, skeleton: Skeleton, precision: str = "fp32"
) -> Callable[[PoseNetwork], Poses]:
    """The function that finds the poses of the people of `store` as a run evaluates its networks."""

    def predict(network: PoseNetwork) -> Poses:
        with torch.autocast(store.device.type, torch.bfloat16, enabled=precision == "bf16"):
            if isinstance(store, WholeImageStore):
                return find_people(network, store, skeleton=skeleton, flip_test=settings.flip_test)
            return predict_people(
                network,
                store,
                size=store.size,
                skeleton=skeleton,
                device=store.device,
                flip_test=settings.flip_test,
                decode=settings.decode,
            )

    return predict


def make_trainer(
    settings: Settings,
    options: dict[str, Any],
    skeleton: Skeleton,
    stores: Stores,
    folder: Path,
    updates: int | None = None,
    report: Callable[[str], None] | None = None,
) -> Trainer:
    """Everything put together; `updates` overrides the settings' duration."""
    device = stores.labeled.device
    if device.type == "cpu":
        keep_freed_memory()
    precision = choose_precision(settings, device)
    batches = make_batches(stores, settings, methods.load(settings.method).uses_unlabeled)
    evaluate = scorer(stores.val, settings, skeleton, precision)

    def trainer(count: int, told: Callable[[str], None] | None) -> Trainer:
        method = make_method(settings, options, skeleton, device, told)
        if method.needs_validation and processes.is_first() and evaluate is None:
            raise UsageError(f"{method.needs_validation} needs people to validate on, and there are none: give --val.")
        if batches.unlabeled is not None:
            parts = processes.count() * settings.accumulate
            method.check(settings.input_size, batches.unlabeled.batch_size // parts)
        return Trainer(method, batches, settings, folder, count, device, precision, evaluate, settings.method)

    if updates is None:
        timed = settings.duration.unit == "seconds"
        seconds = _seconds_per_update(trainer(_TIMED_UPDATES, None)) if timed else 0.0
        # Each process measures its own time; all must train for the same number of updates.
        updates = processes.from_first(settings.duration.updates(batches.updates_per_epoch, seconds))
    return trainer(updates, report)


def _seconds_per_update(trainer: Trainer) -> float:
    """Time an update on a trainer that is thrown away, so that the real one starts untouched."""
    for update in range(_TIMED_UPDATES):
        if update == 2:  # the first updates pay for memory and kernel choices
            start = _now(trainer.device)
        trainer.step(trainer.batches(update))
    return (_now(trainer.device) - start) / (_TIMED_UPDATES - 2)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
