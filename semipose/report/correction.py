"""The report on a method that corrects its pseudo-labels: before and after, and which were nearer to hidden labels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semipose import methods
from semipose.config.settings import Settings
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.drawing import contact_sheet, draw, person_tile
from semipose.engine.checkpoint import load_method
from semipose.engine.setup import builder
from semipose.errors import DataError, SemiposeError
from semipose.formats.coco import load_labels
from semipose.geometry import Affine
from semipose.inference.outputs import crops_of, posed
from semipose.methods.method import Method
from semipose.metrics.score import score
from semipose.networks.network import PoseNetwork
from semipose.pose.poses import Poses
from semipose.report.crops import MOST_UNLABELED, SHOWN, TILE, Predicted, image_of, legend, name_of, person_errors
from semipose.report.html import metric_name, number, picture, table, text
from semipose.runs.run import Run
from semipose.system.device import choose_device

METRICS = ("pck@0.1", "pixel_error")
_BATCH = 32


def correction(run: Run, unlabeled: People, device: str) -> str:
    """Pseudo-labels of some unlabeled people before and after correction; "" where the method does not correct."""
    try:
        method = corrector(run)
        if method is None or len(unlabeled) == 0:
            return ""
        before, after = before_and_after(method, run, unlabeled, device)
    except SemiposeError as error:
        return f'<p class="muted">None: {text(error)}</p>'
    moved = person_errors(after.poses, before.poses)
    order = np.argsort(-moved, kind="stable")[: 2 * SHOWN]
    tiles = [_pair(before, after, int(row), run, float(moved[row])) for row in order]
    body = (
        f'<p class="small">Before on the left, after on the right, of those that changed most among '
        f"{len(moved)} random people of {before.of}. {legend()}</p>"
    )
    return body + f'<div class="tiles">{"".join(tiles)}</div>' + errors(run, before, after)


def corrector(run: Run) -> Method | None:
    """The method as training left it, if it corrects pseudo-labels and is one of ours.

    A class elsewhere that run.json names is not run only to draw pictures.
    """
    name = run.config["method"]
    if ":" in name or methods.load(name).pseudo_labels is Method.pseudo_labels:
        return None
    # The checkpoint holds all weights; the files that training started from may be gone.
    make = builder(replace(Settings.from_record(run.config["settings"]), weights=None), run.skeleton)

    def build(role: str, *, network: str | None = None, weights: Path | None = None) -> PoseNetwork:
        return make(role, network=network)

    options = methods.typed_options(name, run.config["method_settings"])
    method: Method = methods.load(name)(build, run.skeleton, **options)
    load_method(run.folder / "checkpoints" / "last.safetensors", method)
    return method.eval()


def before_and_after(
    method: Method, run: Run, people: People, device: str, seed: int = 0
) -> tuple[Predicted, Predicted]:
    """What random `people` are said to look like before and after correction; those without an image are left out."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(people))[:MOST_UNLABELED])
    place, settings = choose_device(device), Settings.from_record(run.config["settings"])
    store = CropStore(people.select(rows), (settings.input_size[0], settings.input_size[1]), device=place, strict=False)
    try:
        found = _found(method.to(place), store, settings)
    finally:
        store.close()
    before, after = (Predicted(store.people, poses, len(people)) for poses in found)
    return before, after


def _found(method: Method, store: CropStore, settings: Settings) -> list[Poses]:
    parts: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[], []]
    for rows in np.array_split(np.arange(len(store)), max(1, -(-len(store) // _BATCH))):
        view = crops_of(store, rows).canonical()
        answers = method.pseudo_labels(view.image)
        assert answers is not None
        to_image = (view.affine @ Affine(store.affines[rows].double().numpy())).inverse()
        for part, fields in zip(parts, answers, strict=True):
            keypoints, scores = method.codec(view, fields).decode(fields, settings.decode)
            part.append((to_image.points(keypoints).cpu(), scores.cpu()))
    return [posed(store, *(torch.cat(each) for each in zip(*part, strict=True))) for part in parts]


def errors(run: Run, before: Predicted, after: Predicted) -> str:
    """A table of how far both are from hidden labels; "" where there are none."""
    hidden = hidden_labels(run, before.people)
    if hidden is None:
        return ""
    rows, truth = hidden
    cells = []
    for name, looked in (("before", before), ("after", after)):
        values = score(looked.poses[rows], truth, run.skeleton, resamples=0).values
        cells.append([name, *(number(values.get(metric), metric) for metric in METRICS)])
    lead = (
        f'<p class="small">Measured on {len(rows)} of these people: the labeled file has their labels, which '
        "training never read and this report did.</p>"
    )
    return lead + table(["", *(metric_name(metric) for metric in METRICS)], cells)


def hidden_labels(run: Run, people: People) -> tuple[NDArray[np.int64], Poses] | None:
    """Rows of unlabeled `people` who are labeled in the file that `--split` divided, and their labels; None if nobody.

    To be called after training only.
    """
    arguments: dict[str, Any] = run.config["data"].get("arguments") or {}
    if not arguments.get("split"):
        return None
    try:
        labeled = load_labels(arguments["labels"], arguments["images"], skeleton_file=arguments["skeleton"])
    except DataError:  # nobody promised that labels which are not read are sound
        return None
    # Unlabeled people have numbers of their own: their picture and box tell who they are.
    known = {place: row for row, place in enumerate(_places(labeled))}
    found = np.array([known.get(place, -1) for place in _places(people)], np.int64)
    rows = np.flatnonzero((found >= 0) & (labeled.poses.visible[found] > 0).any(1))
    truth = labeled.poses[found[rows]]
    truth.ids, truth.image_ids = people.poses.ids[rows], people.poses.image_ids[rows]
    return (rows, truth) if len(rows) else None


def _places(people: People) -> list[tuple[str, ...]]:
    """Each one's picture and box."""
    files = [people.images.files[image] for image in people.image_index]
    return [(file, *(f"{value:.1f}" for value in box)) for file, box in zip(files, people.poses.boxes, strict=True)]


def _pair(before: Predicted, after: Predicted, row: int, run: Run, moved: float) -> str:
    tile = person_tile(image_of(before, row), before.poses.boxes[row], TILE)
    pair = [draw(tile.pixels, tile.move(looked.poses[[row]]), run.skeleton) for looked in (before, after)]
    name = name_of(before, row)
    return picture(
        contact_sheet(pair, 2, gap=0),
        f"Pseudo-labels before and after correction on {name}",
        f"moved by {moved:.1f} % of the box on average, {name}",
    )
