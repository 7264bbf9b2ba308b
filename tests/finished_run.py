"""A finished run as training would leave it, with random weights and people drawn by the program: a second to make."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from semipose.config.settings import Settings
from semipose.crops.store import CropStore
from semipose.formats.load import Data, load
from semipose.inference.top_down import predict_people
from semipose.metrics.intervals import difference
from semipose.metrics.score import Score, score
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS, Skeleton
from semipose.runs.run import FORMAT, Run
from semipose.synthetic.single import write_demo
from semipose.system.tensor_file import save

SKELETON = PRESETS["lsp_14"]
SIZE = (64, 64)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Files of synthetic people: labels, images, unlabeled, val, val_images."""
    folder = tmp_path_factory.mktemp("pictures")
    demo = write_demo(folder, labeled=6, unlabeled=14, val=12, seed=3, size=(96, 72))
    return SimpleNamespace(
        **{name: getattr(demo, name) for name in ("labels", "images", "unlabeled", "val", "val_images")}
    )


@pytest.fixture(scope="session")
def data(pictures: SimpleNamespace) -> Data:
    """The same, loaded."""
    return load(**vars(pictures))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Path:
    """The folder of a mean_teacher run with a baseline; tests that write take `folder` instead."""
    return write_run(tmp_path_factory.mktemp("runs") / "demo-run", data)


def write_run(folder: Path, data: Data, baseline: bool = True) -> Path:
    """Write all files of a finished run of two randomly initialized networks."""
    networks = {"teacher": make_network(1), "student": make_network(2)}
    write_plan(folder, data)
    for name, network in networks.items():
        for which in ("best", "last"):
            save_network(folder / "checkpoints" / f"{which}-{name}.safetensors", network, name)
    scores = {name: score_on(network, data) for name, network in networks.items()}
    values = {name: {"values": result.values} for name, result in scores.items()}
    write_log(folder / "log.jsonl", values)
    metrics: dict[str, Any] = {
        "metric": "pck@0.1",
        "deployed": {
            "network": "teacher",
            "file": "checkpoints/best-teacher.safetensors",
            "update": 100,
            "rule": "best on val by pck@0.1",
        },
        "val": {name: {"best": result.to_dict(), "last": result.to_dict()} for name, result in scores.items()},
        "unreadable_unlabeled": [],
        "memory": {
            "crops": {"labeled": {"kept": "ram", "bytes": 10**7}, "val": {"kept": "none", "bytes": 0}},
            "peak_ram": 5 * 10**8,
            "peak_device": None,
        },
    }
    if baseline:
        other = score_on(make_network(5), data)
        for kind in ("weak", "strong"):
            write_plan(folder / "baseline" / kind, data)
            write_log(folder / "baseline" / kind / "log.jsonl", {"raw": {"values": other.values}})
        metrics["baseline"] = {"folder": "baseline/weak", "network": "ema", "score": other.to_dict()}
        metrics["against_baseline"] = difference(scores["teacher"], other, "pck@0.1").to_dict()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def write_plan(folder: Path, data: Data, /, **changes: Any) -> None:
    """Write run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = {
        "format": FORMAT,
        "semipose": "0.1.0",
        "command": ["semipose", "train", "labels.json"],
        "started": "2026-11-21T09:00:00+00:00",
        "method": "mean_teacher",
        "method_settings": {"threshold": None},
        "baseline": False,
        "settings": Settings.from_values({"network": "mobilenet_v1", "width": 0.25}).record(),
        "skeleton": SKELETON.to_dict(),
        "network": make_network(0).config,
        "input_size": list(SIZE),
        "data": {
            "labeled": about(data.labeled),
            "unlabeled": about(data.unlabeled),
            "val": about(data.val),
            "val_source": data.val_source,
            "notes": list(data.notes),
            "arguments": data.arguments,
            "fingerprint": "0123456789abcdef",
            "files": "fedcba9876543210",
        },
        "versions": {"python": "3.12.0", "torch": torch.__version__},
        "device": "cpu",
        "chip": "AVX2",
        "threads": 1,
        "precision": "fp32",
        "processes": 1,
    }
    (folder / "run.json").write_text(json.dumps(plan | changes))


def header_only(file: Path) -> None:
    """Write a png that tells its size and has no pixels."""
    done, data = cv2.imencode(".png", np.zeros((96, 72, 3), np.uint8))
    assert done
    file.write_bytes(data.tobytes()[:40])


def write_log(file: Path, networks: dict[str, Any]) -> None:
    """Write a log of ten steps with two evaluations."""
    rows: list[dict[str, Any]] = []
    for update in range(10, 101, 10):
        losses = {"labeled": 0.01 / update, "consistency": 0.002 / update}
        signals = {"confidence": update / 200, "confident": 0.5, "gradient": 3.0}
        rows.append(
            {
                "kind": "train",
                "update": update,
                "losses": losses,
                "signals": signals,
                "lr": 1e-3,
                "images_per_s": 210.0,
                "data_wait": 0.02,
            }
        )
        if update % 50 == 0:
            rows.append({"kind": "eval", "update": update, "networks": networks})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def about(people: Any) -> dict[str, Any] | None:
    """What run.json says of one stream."""
    if people is None:
        return None
    return {
        "people": len(people),
        "images": len(people.images),
        "source": people.source,
        "box_source": people.box_source,
    }


def make_network(seed: int, skeleton: Skeleton = SKELETON) -> PoseNetwork:
    """A small network with random weights, whose peaks are about 1 high as after training."""
    network = build_network("mobilenet_v1", skeleton, width=0.25, head_channels=16, seed=seed).eval()
    with torch.no_grad():
        image = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
        last = [module for module in network.head.modules() if isinstance(module, torch.nn.Conv2d)][-1]
        last.weight /= network(image)["heatmap"].maps.abs().max()
    return network


def save_network(file: Path, network: PoseNetwork, name: str, /, **changes: Any) -> Path:
    """Write a checkpoint as the trainer does."""
    record = {
        "network": network.config,
        "skeleton": SKELETON.to_dict(),
        "input_size": list(SIZE),
        "update": 100,
        "name": name,
        "values": {"pck@0.1": 1.0},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    save(file, network.state_dict(), record | changes)
    return file


def score_on(network: PoseNetwork, data: Data) -> Score:
    """Score on val."""
    assert data.val is not None
    predicted = predict_people(network, CropStore(data.val, SIZE), SKELETON)
    return score(predicted, data.val.poses, SKELETON, resamples=50)


@pytest.fixture
def folder(tmp_path: Path, data: Data) -> Path:
    """A fresh finished run that a test may change."""
    return write_run(tmp_path / "run", data)


@pytest.fixture
def run(finished: Path) -> Run:
    """The finished run, to be read only."""
    return Run(finished)
