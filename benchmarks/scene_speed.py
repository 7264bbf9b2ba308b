"""Cost of decoding people from the output of detector-free networks, and of grouping by tags against plain loops.

    python -m benchmarks.scene_speed --out benchmarks/results/scene_speed.json

Grouping: maps of 512 px for 17 keypoints with two tags each, as flip testing gives them, of random people with three of
four keypoints visible. "plain" works like public code for HigherHRNet (tests/codecs/plain.py): it copies the maps for
each person and searches each keypoint in a loop, starting from given candidates. "ours" finds the candidates as well;
people and positions must be equal. "network" decodes the same people from maps of a network's sizes, 256 and 128 cells.

Decoding: outputs for 512 px of all three kinds of network, with people side by side, without test-time augmentation.
One thread, CPU time, medians over rounds in which all variants take turns.
"""

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semipose.codecs.associative import AssociativeEmbedding
from semipose.codecs.center_offset import CenterOffset
from semipose.codecs.instance import Instance
from semipose.codecs.peaks import peaks
from semipose.codecs.scene_codec import SceneCodec
from semipose.fields import Field, Fields, InstanceFields
from semipose.networks.build import build_network
from semipose.pose.skeleton import PRESETS
from semipose.scene import Scene
from semipose.system.files import write_json
from tests.codecs import plain

SKELETON = PRESETS["coco_17"]
SIDE, KEYPOINTS = 512, len(SKELETON)
TARGET = 10.0


def main() -> None:
    """Run all measurements and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 5, 10, 20])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        results = {
            "versions": {
                "torch": torch.__version__,
                "python": platform.python_version(),
                "machine": platform.machine(),
            },
            "side": SIDE,
            "keypoints": KEYPOINTS,
            "rounds": args.rounds,
            "target_at_10_people": TARGET,
            "grouping": [grouping(people, args.rounds) for people in args.people],
            "decoding_ms": [{"people": people} | decoding(people, args.rounds) for people in args.people],
            "targets_ms": {
                kind.__name__: targets(kind, args.rounds) for kind in (AssociativeEmbedding, CenterOffset, Instance)
            },
        }
    write_json(args.out, results)
    print(results)


def grouping(people: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per image by the number of people, and the speed-up over plain loops."""
    heat, tags = crowd(people)
    large = AssociativeEmbedding((4 * SIDE, 4 * SIDE), SKELETON, fine=False)
    given = fields_of(heat, tags)
    small = AssociativeEmbedding((SIDE, SIDE), SKELETON)
    output = fields_of(*(each[..., 1::4, 1::4] for each in (heat, tags)))
    output["fine_heatmap"] = Field(heat[None, :, ::2, ::2].contiguous(), "scalar", 2, SKELETON.flip)
    score, cells = peaks(heat[None], 30)
    tag = torch.stack([tags[:, k, cells[0, k, :, 1], cells[0, k, :, 0]].T for k in range(KEYPOINTS)])
    maps, theirs = heat.numpy(), np.ascontiguousarray(tags.permute(1, 2, 3, 0).numpy())
    loops = lambda: plain.group(maps, theirs, score[0].numpy(), cells[0].numpy(), tag.numpy())  # noqa: E731
    same(large, given, *loops())
    times = measured(
        {
            "plain": loops,
            "ours": lambda: large.decode(given),
            "network": lambda: small.decode(output),
        },
        rounds,
    )
    ratio = [a / b for a, b in zip(times["plain"], times["ours"], strict=True)]
    return {
        "people": people,
        "ms": {name: round(1e3 * median(each), 2) for name, each in times.items()},
        "times_faster": round(median(ratio), 1),
    }


def same(codec: AssociativeEmbedding, fields: Fields, people: list[Any], scores: list[float]) -> None:
    """Stop unless our people, scores and positions equal the plain ones."""
    detected = codec.decode(fields)
    order = np.argsort(-np.array(scores), kind="stable")[:30]
    expected = np.stack(people)[order]
    np.testing.assert_allclose(detected.person[0, : len(order)], np.array(scores)[order], rtol=1e-5)
    np.testing.assert_array_equal(codec.in_cells(detected.keypoints[0, : len(order)]), expected[..., :2])
    np.testing.assert_array_equal(detected.scores[0, : len(order)], expected[..., 2])


def crowd(people: int) -> tuple[Tensor, Tensor]:
    """Heatmaps (17, 512, 512) and tags (2, 17, 512, 512) of people, with a little noise."""
    random = np.random.default_rng(people)
    y, x = np.mgrid[:SIDE, :SIDE]
    heat, tags = np.zeros((KEYPOINTS, SIDE, SIDE)), np.zeros((2, KEYPOINTS, SIDE, SIDE))
    for person in range(people):
        for k in range(KEYPOINTS):
            at = random.uniform(10, SIDE - 11, 2)
            near = (x - at[0]) ** 2 + (y - at[1]) ** 2
            height = random.uniform(0.3, 1) if random.random() < 0.75 else 0.05
            heat[k] = np.maximum(heat[k], height * np.exp(-near / 128))
            tags[:, k] += (near < 400) * (2.0 * person + random.normal(0, 0.1, (2, 1, 1)) - tags[:, k])
    # With equal tags, rounding would decide between two candidates.
    heat, tags = heat + random.uniform(0, 0.002, heat.shape), tags + random.normal(0, 0.02, tags.shape)
    return torch.from_numpy(heat).float(), torch.from_numpy(tags).float()


def fields_of(heat: Tensor, tags: Tensor) -> Fields:
    """Output of a network for one image."""
    embedding = Field(tags.flatten(0, 1)[None].contiguous(), "embedding", 4, SKELETON.flip * 2)
    return Fields({"heatmap": Field(heat[None].contiguous(), "scalar", 4, SKELETON.flip), "tags": embedding})


def decoding(people: int, rounds: int) -> dict[str, float]:
    """Milliseconds to decode an image by the number of people and the kind of network."""
    random = torch.Generator().manual_seed(people)
    corner = torch.tensor([[16.0 + 100 * (person % 5), 16.0 + 100 * (person // 5)] for person in range(people)])
    keypoints = corner[:, None] + 80 * torch.rand(people, KEYPOINTS, 2, generator=random)
    one = torch.ones(1, people)
    scene = Scene(
        keypoints[None],
        one[..., None].expand(-1, -1, KEYPOINTS),
        one,
        80 * one[..., None].expand(-1, -1, 2),
        torch.ones(1, 1, SIDE // 4, SIDE // 4),
    )
    size = (SIDE, SIDE)
    codecs = AssociativeEmbedding(size, SKELETON), CenterOffset(size, SKELETON), Instance(size, SKELETON)
    ways: dict[str, Callable[[], object]] = {}
    for codec in codecs:
        fields = perfect_output(codec, scene, random)
        count = int((codec.decode(fields).person > 0).sum())
        if count != people:
            raise RuntimeError(f"{type(codec).__name__} detected {count} of {people} people")
        ways[type(codec).__name__] = lambda codec=codec, fields=fields: codec.decode(fields)
    return {name: round(1e3 * median(each), 2) for name, each in measured(ways, rounds).items()}


def perfect_output(codec: SceneCodec, scene: Scene, random: torch.Generator) -> Fields:
    """Output of a perfect network for an image with the people of `scene`; CID's maps of a person are random."""
    maps = codec.targets(scene)[0]
    cells = codec.cells
    if isinstance(codec, AssociativeEmbedding):
        near = torch.cdist(
            codec.in_pixels(torch.cartesian_prod(*map(torch.arange, cells)).flip(-1).float()),
            scene.keypoints[0].mean(1),
        )
        tags = 5.0 * near.argmin(-1).view(1, 1, *cells).expand(-1, KEYPOINTS, -1, -1)
        maps["tags"] = Field(tags.contiguous(), "embedding", 4, SKELETON.flip)
    if isinstance(codec, CenterOffset):
        maps["offsets"] = Field(codec.offset_targets(scene)[0].flatten(1, 2), "vector", 4, tuple(range(2 * KEYPOINTS)))
    if isinstance(codec, Instance):
        head = build_network("cid", SKELETON, backbone="mobilenet_v1", width=0.25).eval().head.gfd
        described = torch.randn(1, head.conv_down.in_channels, *cells, generator=random)
        x, y = (torch.arange(side) for side in cells[::-1])

        def draw(parameters: Tensor, shared: Tensor, at: Tensor) -> Tensor:
            # All keypoints are at the center; equal poses would be merged into one person.
            away = (x - at[:, :1]).square()[:, None] + (y - at[:, 1:]).square()[..., None]
            return torch.lerp(torch.exp(-away / 8.0)[:, None], head(parameters, shared, at), 1e-3)

        return InstanceFields(maps, described, head.conv_down(described), draw)
    return maps


def targets(kind: type[AssociativeEmbedding | CenterOffset | Instance], rounds: int) -> float:
    """Milliseconds to render the targets of 8 images of 512 px with 8 of at most 12 people each."""
    random = torch.Generator().manual_seed(0)
    corner = 400 * torch.rand(8, 12, 1, 2, generator=random)
    keypoints = corner + 100 * torch.rand(8, 12, KEYPOINTS, 2, generator=random)
    weight = (torch.arange(12) < 8).float().expand(8, -1)
    visible, sides = weight[..., None].expand(-1, -1, KEYPOINTS), torch.full((8, 12, 2), 110.0)
    codec = kind((SIDE, SIDE), SKELETON)
    times = measured(
        {
            "draw": lambda: codec.targets(
                Scene(keypoints, visible, weight, sides, torch.ones(8, 1, SIDE // 4, SIDE // 4))
            )
        },
        rounds,
    )
    return round(1e3 * median(times["draw"]), 2)


def measured(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each variant in every round; the first round is dropped."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, call in ways.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: each[1:] for name, each in times.items()}


if __name__ == "__main__":
    main()
