"""Speed tables of docs, made from the json files in benchmarks/results."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def step_speed() -> str:
    """Steps of all methods against their limit, one table per machine."""
    return "\n".join(step_table(json.loads(file.read_text())) for file in sorted(RESULTS.glob("step_speed-*.json")))


def step_table(results: dict[str, Any]) -> str:
    """Images per second of the whole step and of its limit, and the operators of both."""
    height, width = results["input_size"]
    head = (
        f"**{results['name']}**, {results['threads']} threads, torch {results['torch']}, {results['network']}, "
        f"{height}x{width}, batch {results['batch']} + {results['batch']}, {results['precision']}, "
        f"{results['rounds']} rounds:\n\n"
    )
    columns = [
        "images/s",
        "limit",
        "efficiency",
        "by CPU time",
        "operators",
        "to the limit",
        "blocking reads",
        "peak MB",
    ]
    parts = {
        key: title
        for key, title in (
            ("targets_ms", "targets, ms"),
            ("losses_ms", "targets and losses, ms"),
            ("losses_operators", "their operators"),
        )
        if key in results["rows"][0]
    }
    rows = [
        (
            f"`{row['method']}`",
            f"{row['images_per_s']:.2f}",
            f"{row['limit_images_per_s']:.2f}",
            f"{row['efficiency']:.2f}",
            f"{row['cpu_efficiency']:.2f}",
            row["operators"],
            f"{row['operators'] / row['limit_operators']:.2f}",
            row["blocking_reads"],
            f"{row['memory_mb']:,}",
            *(row[key] for key in parts),
        )
        for row in results["rows"]
    ]
    return head + lined(("method", *columns, *parts.values()), rows)


def scene_speed() -> str:
    """Cost of decoding whole images by the number of people, and of grouping against plain loops."""
    results = json.loads((RESULTS / "scene_speed.json").read_text())
    kinds = {"AssociativeEmbedding": "higher_hrnet", "CenterOffset": "dekr", "Instance": "cid"}
    decoding = lined(
        ("people", *(f"{name}, ms" for name in kinds.values())),
        [(row["people"], *(row[kind] for kind in kinds)) for row in results["decoding_ms"]],
    )
    grouping = lined(
        ("people", "plain loops, ms", "ours, ms", "times faster", "ours on a network's maps, ms"),
        [
            (row["people"], row["ms"]["plain"], row["ms"]["ours"], row["times_faster"], row["ms"]["network"])
            for row in results["grouping"]
        ],
    )
    return f"{decoding}\n{grouping}"


def decode_speed() -> str:
    """Cost of decoding keypoints against two searches for the highest cell."""
    results = json.loads((RESULTS / "decode_speed.json").read_text())["decoding"]
    rows = [
        (
            name,
            results["cpu_ms"][name],
            f"{results['to_argmax'][name]:.2f}" if name in results["to_argmax"] else "",
            f"{results['to_blocks'][name]:.2f}" if name in results["to_blocks"] else "",
        )
        for name in results["cpu_ms"]
    ]
    return lined((f"{results['batch']} people, {results['keypoints']} maps each", "ms", "to argmax", "to blocks"), rows)


def correction() -> str:
    """Cost of correcting pseudo-labels."""
    results = json.loads((RESULTS / "decode_speed.json").read_text())["correction"]
    cells = "x".join(str(side) for side in results["cells"])
    return (
        f"SSPCM's correction of {results['crops']} people's pseudo-labels ({results['keypoints']} maps of {cells}, "
        f"four networks) takes {results['cpu_ms']['correct']:.1f} ms of CPU time;\n"
        f"making all four means and picking takes {results['cpu_ms']['four_means']:.0f} ms.\n"
    )


def scoring() -> str:
    """Time to score predictions."""
    results = json.loads((RESULTS / "decode_speed.json").read_text())["evaluation"]
    return (
        f"Scoring {results['people']:,} people in {results['images']:,} images (PCK, OKS-AP) takes "
        f"{results['values']['cpu_seconds']:.1f} s of CPU time, with 95 % intervals of 1,000 resamples "
        f"{results['values_and_intervals']['cpu_seconds']:.1f} s.\n"
    )


def views_speed() -> str:
    """Cost of views against the network's step."""
    rows = json.loads((RESULTS / "views_speed.json").read_text())["rows"]
    return lined(
        ("operation", "share of a step", "target", "operators"),
        [
            (row["name"], f"{row['share']:.2%}", f"{row['limit']:.0%}" if row["limit"] else "", row["operators"])
            for row in rows
        ],
    )


def loading() -> str:
    """Speed of crops from files and from caches."""
    sets = json.loads((RESULTS / "loader.json").read_text())["sets"]
    ways = ("decode", "limit", "uncached", "ram", "disk")
    return lined(
        ("set", *(f"{way}, ms" for way in ways), "limit to uncached"),
        [(name, *(row["cpu_ms"][way] for way in ways), row["uncached_to_limit"]) for name, row in sets.items()],
    )


def lined(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Format a table in markdown."""
    head = list(head)
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in (head, ["---"] * len(head), *rows))
