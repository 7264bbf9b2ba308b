"""Cost of decoding keypoints from heatmaps, of correcting pseudo-labels, and of scoring.

    python -m benchmarks.decode_speed --out benchmarks/results/decode_speed.json

Decoding: a batch of maps with one Gaussian peak and noise, CPU time on one thread. All variants take turns in one
process; the first round is dropped; ratios are medians over rounds. "argmax" is torch's `maps.flatten(2).max(-1)`, and
"blocks" the search that semipose uses instead.

Correction: SSPCM's correction of pseudo-labels, against computing all four pairwise means, the obvious vectorization.

Evaluation: PCK and OKS-AP of random poses with errors, without intervals (as during training) and with bootstrap
intervals (as at its end).
"""

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semipose.codecs.heatmap import HeatmapCodec, highest
from semipose.fields import Field, Fields
from semipose.methods._correction import correct
from semipose.metrics.score import score
from semipose.pose.poses import Poses
from semipose.pose.skeleton import PRESETS
from semipose.system.files import write_json

SIZE = (256, 192)
SKELETON = PRESETS["coco_17"]
TARGETS = {"quarter": 1.2, "dark": 1.5}


def main() -> None:
    """Run all three measurements and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        "versions": {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()},
        "decoding": decoding(args.batch, args.rounds),
        "correction": correction(args.batch, args.rounds),
        "evaluation": evaluation(args.people),
    }
    write_json(args.out, results)
    print(results)


def decoding(batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per batch, and each decoding's ratio to the two searches."""
    codec, fields = peaks(batch)
    maps = fields["heatmap"].maps
    ways: dict[str, Callable[[], object]] = {
        "argmax": lambda: maps.flatten(2).max(-1),
        "blocks": lambda: highest(maps),
        "quarter": lambda: codec.decode(fields, "quarter"),
        "dark": lambda: codec.decode(fields, "dark"),
    }
    times = timed(ways, rounds)
    return {
        "batch": batch,
        "keypoints": len(SKELETON),
        "cells": list(codec.cells),
        "rounds": rounds,
        "targets": TARGETS,
        "cpu_ms": milliseconds(times),
        "to_argmax": {name: ratio(times, name, "argmax") for name in TARGETS},
        "to_blocks": {name: ratio(times, name, "blocks") for name in TARGETS},
    }


def correction(batch: int, rounds: int, keypoints: int = 24) -> dict[str, Any]:
    """Milliseconds to correct the pseudo-labels of four networks, and the ratio to computing all four means."""
    codec, _ = peaks(1)
    generator = torch.Generator().manual_seed(0)
    outputs = [
        Fields(
            {
                "heatmap": Field(
                    torch.rand(batch, keypoints, *codec.cells, generator=generator),
                    "scalar",
                    codec.stride,
                    tuple(range(keypoints)),
                )
            }
        )
        for _ in range(4)
    ]
    now, before = (outputs[0], outputs[2]), (outputs[1], outputs[3])
    with torch.inference_mode():
        torch.testing.assert_close(four_means(now, before), correct(now, before).fields["heatmap"].maps)
    times = timed({"correct": lambda: correct(now, before), "four_means": lambda: four_means(now, before)}, rounds)
    return {
        "crops": batch,
        "keypoints": keypoints,
        "cells": list(codec.cells),
        "rounds": rounds,
        "cpu_ms": milliseconds(times),
        "to_four_means": ratio(times, "correct", "four_means"),
    }


def four_means(now: tuple[Fields, Fields], before: tuple[Fields, Fields]) -> Tensor:
    """Corrected maps, selected from the means of all four pairs."""
    first, past, second, gone = (output["heatmap"].maps for output in (now[0], before[0], now[1], before[1]))
    pairs = ((first, second), (past, second), (first, gone), (past, gone))
    width = first.shape[-1]
    distances = []
    for pair in pairs:
        index = [maps.flatten(2).argmax(-1) for maps in pair]
        one, other = (torch.stack([at % width, at // width], -1).float() for at in index)
        distances.append((one - other).square().sum(-1))
    best = torch.stack(distances).argmin(0)
    means = torch.stack([(one + other) / 2 for one, other in pairs])
    return means.gather(0, best[None, ..., None, None].expand(1, *first.shape))[0]


def timed(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each of `ways`, taken in turn; the first round is dropped."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name in sorted(ways, reverse=number % 2 == 0):
                times[name].append(seconds(ways[name]))
    return {name: values[1:] for name, values in times.items()}


def milliseconds(times: dict[str, list[float]]) -> dict[str, float]:
    """Median milliseconds of each variant."""
    return {name: round(1e3 * median(values), 3) for name, values in times.items()}


def ratio(times: dict[str, list[float]], one: str, other: str) -> float:
    """Median over rounds of the ratio within a round."""
    return round(median(a / b for a, b in zip(times[one], times[other], strict=True)), 3)


def peaks(batch: int) -> tuple[HeatmapCodec, Fields]:
    """Maps like those of a trained network: one Gaussian peak and a little noise."""
    codec = HeatmapCodec.for_size(SIZE, SKELETON.flip)
    generator = torch.Generator().manual_seed(0)
    at = torch.rand(batch, len(SKELETON), 2, generator=generator) * torch.tensor([SIZE[1] - 1.0, SIZE[0] - 1.0])
    field = codec.encode(at, torch.ones(at.shape[:2]))[0]["heatmap"]
    maps: Tensor = field.maps + 0.01 * torch.rand(field.maps.shape, generator=generator)
    return codec, Fields({"heatmap": Field(maps, "scalar", codec.stride, codec.flip)})


def evaluation(people: int) -> dict[str, Any]:
    """Seconds to score poses that are a few pixels off."""
    random = np.random.default_rng(0)
    size = random.uniform(40, 200, (people, 1, 2))
    corner = random.uniform(0, 400, (people, 1, 2))
    truth = replace(
        Poses.blank(people, len(SKELETON)),
        keypoints=corner + size * random.uniform(0, 1, (people, len(SKELETON), 2)),
        visible=np.full((people, len(SKELETON)), 2),
        boxes=np.concatenate([corner, size], 2)[:, 0],
        ids=np.arange(people),
        image_ids=np.arange(people) // 2,
    )
    guess = replace(truth, keypoints=truth.keypoints + random.normal(0, 4, truth.keypoints.shape))
    results: dict[str, Any] = {"people": people, "images": people // 2}
    for name, resamples in {"values": 0, "values_and_intervals": 1000}.items():
        wall, cpu = time.perf_counter(), time.process_time()
        score(guess, truth, SKELETON, resamples=resamples)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        results[name] = {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}
    return results


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of one call, averaged over several."""
    start = time.process_time()
    for _ in range(5):
        call()
    return (time.process_time() - start) / 5


if __name__ == "__main__":
    main()
