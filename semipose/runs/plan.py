"""Data and settings in, run.json out: everything that is decided before training, and why."""

import hashlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import torch

from semipose.config.settings import Settings
from semipose.data.people import People
from semipose.engine.setup import choose_precision
from semipose.errors import SemiposeError
from semipose.formats.load import Data
from semipose.networks import TIMM
from semipose.networks.build import build_network
from semipose.runs.records import DataRecord, Environment, RunRecord, StreamRecord, setting_records
from semipose.runs.run import FORMAT
from semipose.system import processes
from semipose.system.device import choose_device

_PACKAGES = ("torch", "numpy", "opencv-python-headless", "faster-coco-eval", "safetensors")


def make_plan(data: Data, settings: Settings, options: dict[str, Any], baseline: bool, command: list[str]) -> RunRecord:
    """Record data, settings with their sources, network and versions before training."""
    skeleton = data.labeled.skeleton
    if skeleton is None:
        raise SemiposeError("the labeled people have no skeleton; load them with semipose.load")
    network = build_network(
        settings.network,
        skeleton,
        width=settings.width,
        head_channels=settings.head_channels,
        **settings.network_options(),
    ).config
    return RunRecord(
        format=FORMAT,
        semipose=version("semipose"),
        command=command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        method=settings.method,
        method_settings=options,
        baseline=baseline,
        settings=setting_records(settings),
        skeleton=skeleton.to_dict(),
        network=network,
        input_size=(settings.input_size[0], settings.input_size[1]),
        data=_describe_data(data),
        **msgspec.structs.asdict(environment(settings)),
    )


def environment(settings: Settings) -> Environment:
    """Versions and hardware of this process, which a resumed run needs again to end in the same weights."""
    device = choose_device(settings.device)
    packages = (*_PACKAGES, "timm") if settings.network.startswith(TIMM) else _PACKAGES
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return Environment(
        versions={"python": platform.python_version(), **{name: _version(name) for name in packages}},
        device=str(device),
        chip=chip,
        threads=torch.get_num_threads(),
        precision=choose_precision(settings, device),
        processes=processes.count(),
    )


def environment_changes(plan: RunRecord, now: Environment) -> list[str]:
    """Differences between the recorded environment and `now`, such as "threads 2, now 1"."""
    old = {**msgspec.structs.asdict(plan), **plan.versions}
    new = {**msgspec.structs.asdict(now), **now.versions, "semipose": version("semipose")}
    names = [name for name in new if name != "versions" and name in old]
    return [f"{name} {old[name]}, now {new[name]}" for name in names if old[name] != new[name]]


def _describe_data(data: Data) -> DataRecord:
    labeled = _describe(data.labeled)
    assert labeled is not None
    return DataRecord(
        labeled=labeled,
        unlabeled=_describe(data.unlabeled),
        val=_describe(data.val),
        val_source=data.val_source,
        notes=list(data.notes),
        arguments=data.arguments,
        fingerprint=fingerprint(data),
        files=files_fingerprint(data),
    )


def _describe(people: People | None) -> StreamRecord | None:
    if people is None:
        return None
    return StreamRecord(len(people), len(people.images), str(people.source), people.box_source)


def fingerprint(data: Data) -> str:
    """Hash of all people, their places and labels, which a resumed run must find again."""
    digest = hashlib.blake2b(digest_size=8)
    for people in (data.labeled, data.unlabeled, data.val):
        if people is not None:
            poses = people.poses
            for values in (poses.ids, poses.image_ids, poses.boxes, poses.keypoints, poses.visible):
                digest.update(values.tobytes())
            if data.whole_images:  # images without people count, and what is to be ignored
                digest.update(people.images.ids.tobytes())
                for number, outline in sorted(people.outlines.items()):
                    digest.update(f"{number} {outline.size}".encode() + outline.tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def files_fingerprint(data: Data) -> str:
    """Hash of the names of all image files, without folders, and their sizes, which mostly change with the content."""
    digest = hashlib.blake2b(digest_size=8)
    for people in (data.labeled, data.unlabeled, data.val):
        for file in people.images.files if people is not None else ():
            size = os.stat(file).st_size if os.path.exists(file) else -1
            digest.update(f"{Path(file).name}/{size}|".encode())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
