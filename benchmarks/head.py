"""Accuracy of the two heads at small inputs, with and without frozen stages, on labels alone.

    python -m benchmarks.head --data lspet
    python -m benchmarks.head --data coco_people --updates 600 --heads multi_scale --freeze 0 1 2

A row is one training: `supervised` on 10 % of the labels, MobileNetV1 of width 0.75 with ImageNet's weights, batches of
16, a cosine schedule of that many updates. Size, learning rate and channels of the head are those of
`benchmarks.accuracy`. A row holds the validation PCK of the averaged weights at the end, and the CPU seconds of the
training alone, over all threads. Finished rows are not repeated. SEMIPOSE_DATA names the folder of the data
(default: ../shared/data).
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

import semipose
from benchmarks.accuracy import PROFILES, Profile, short
from semipose.config.settings import Settings
from semipose.engine.setup import Stores, make_trainer
from semipose.formats.load import Data, load
from semipose.networks import HEAD_CHANNELS
from semipose.system.device import choose_device
from semipose.system.files import write_json


def main() -> None:
    """Run the requested rows that are not yet in the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(PROFILES["small"]), required=True)
    parser.add_argument("--updates", type=int, nargs="*", default=[600, 300, 1000])
    parser.add_argument("--heads", nargs="*", choices=list(HEAD_CHANNELS), default=list(HEAD_CHANNELS))
    parser.add_argument("--freeze", type=int, nargs="*", default=[0, 2], help="frozen stages of the backbone")
    parser.add_argument("--seed", type=int, default=0, help="random seed of split and training")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    root = Path(os.environ.get("SEMIPOSE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    profile, file = PROFILES["small"][args.data], args.out / f"head-{args.data}-seed{args.seed}.json"
    data = read(root / args.data, profile, args.seed)
    for updates, freeze, head in product(args.updates, args.freeze, args.heads):
        name = f"{head}-freeze{freeze}-{updates}"
        if name not in rows(file):
            row = measure(data, settings(replace(profile, duration=updates), root, head, freeze, args.seed))
            record(file, args.data, profile, args.seed, {**rows(file), name: row})
            print(name, row, flush=True)


def read(folder: Path, profile: Profile, seed: int) -> Data:
    """Read the labeled part of the training images and the validation people."""
    annotations = folder / "annotations"
    data = load(
        annotations / "person_keypoints_train.json",
        folder / "images",
        split=folder / "splits" / f"semi_{profile.labels}_seed{seed}.json",
        val=annotations / "person_keypoints_val.json",
    )
    return replace(data, unlabeled=None)


def settings(profile: Profile, root: Path, head: str, freeze: int, seed: int) -> Settings:
    """Return the settings of a row."""
    shared = {key: value for key, value in asdict(profile).items() if key not in ("labels", "weights")}
    weights = root / "weights" / str(profile.weights)
    row = {"method": "supervised", "head": head, "freeze": freeze, "seed": seed, "weights": weights}
    return Settings.from_values({**shared, **row}).validate()


def measure(data: Data, chosen: Settings) -> dict[str, Any]:
    """Train once; return the scores of both networks, and the CPU seconds without reading and scoring."""
    stores, skeleton = Stores.read(data, chosen, choose_device(chosen.device)), data.labeled.skeleton
    assert skeleton is not None
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(chosen, {}, skeleton, stores, Path(folder))
        evaluate, trainer.evaluate = trainer.evaluate, None
        start = time.process_time()
        trainer.run()
        seconds = time.process_time() - start
    assert evaluate is not None
    networks = trainer.method.networks()
    trained = sum(p.numel() for p in networks["raw"].parameters() if p.requires_grad)
    scores = {name: short(evaluate(network).values) for name, network in networks.items()}
    return {"val": scores, "cpu_seconds": round(seconds, 1), "trained_parameters": trained}


def rows(file: Path) -> dict[str, Any]:
    """Return the finished rows."""
    found: dict[str, Any] = json.loads(file.read_text())["rows"] if file.is_file() else {}
    return found


def record(file: Path, data: str, profile: Profile, seed: int, rows: dict[str, Any]) -> None:
    """Write the results with their protocol."""
    protocol = "given boxes, no flip test, DARK decoding; val, last averaged weights (ema) and raw ones; one seed"
    shared = {key: value for key, value in asdict(profile).items() if key != "duration"}
    facts = {"semipose": semipose.__version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    write_json(file, {"data": data, "seed": seed, "profile": shared, **facts, "protocol": protocol, "rows": rows})


if __name__ == "__main__":
    main()
