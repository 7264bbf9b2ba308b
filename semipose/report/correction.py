"""A method that corrects its pseudo-labels in; pictures before and after, and errors against hidden labels out."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semipose import methods
from semipose.config.settings import Settings
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.drawing import Noun, contact_sheet, draw, person_tile
from semipose.engine.checkpoint import load_method
from semipose.engine.setup import builder
from semipose.errors import DataError, SemiposeError
from semipose.formats.labels import load_labels
from semipose.geometry import Affine
from semipose.inference.outputs import crops_of, posed
from semipose.methods.method import Method
from semipose.metrics.score import score
from semipose.networks.network import PoseNetwork
from semipose.pose.poses import Poses
from semipose.report.crops import CROPS_PER_GROUP, MAX_UNLABELED, TILE, Predicted, file_name_of, image_of, person_errors
from semipose.report.html import Gallery, Picture
from semipose.runs.run import Run
from semipose.system.device import choose_device

METRICS = ("pck@0.1", "pixel_error")
_BATCH = 32


@dataclass(frozen=True)
class Correction:
    """Pictures of pseudo-labels before and after correction, and the errors of both.

    `errors` has values by metric for "before" and "after", of `measured` people whose labels were hidden from training;
    it is empty where there are none.
    """

    gallery: Gallery
    errors: dict[str, dict[str, float]]
    measured: int = 0
    metrics: tuple[str, ...] = METRICS


def correction(run: Run, unlabeled: People, device: str) -> Correction | None:
    """Pseudo-labels of a sample of unlabeled people before and after correction; None for methods without one."""
    try:
        method = corrector(run)
        if method is None or len(unlabeled) == 0:
            return None
        before, after = before_and_after(method, run, unlabeled, device)
    except SemiposeError as error:
        return Correction(Gallery(fault=str(error)), {})
    moved = person_errors(after.poses, before.poses)
    order = np.argsort(-moved, kind="stable")[: 2 * CROPS_PER_GROUP]
    noun = Noun.of(run.skeleton.name)
    intro = (
        f"Before correction on the left, after it on the right. Shown are those that changed most of {len(moved)} "
        f"random {noun.plural} of {before.total}."
    )
    pictures = {"": [_pair(before, after, int(row), run, float(moved[row])) for row in order]}
    return Correction(Gallery(intro, pictures, noun.singular), *errors(run, before, after))


def corrector(run: Run) -> Method | None:
    """The trained method, if it corrects pseudo-labels and is part of semipose.

    A class elsewhere that run.json names is not executed only to draw pictures.
    """
    name = run.record.method
    if ":" in name or methods.load(name).pseudo_labels is Method.pseudo_labels:
        return None
    # The checkpoint holds all weights; the files that training started from may no longer exist.
    make = builder(replace(run.settings, weights=None), run.skeleton)

    def build(role: str, *, network: str | None = None, weights: Path | None = None) -> PoseNetwork:
        return make(role, network=network)

    options = methods.typed_options(name, run.record.method_settings)
    method: Method = methods.load(name)(build, run.skeleton, **options)
    load_method(run.folder / "checkpoints" / "last.safetensors", method)
    return method.eval()


def before_and_after(
    method: Method, run: Run, people: People, device: str, seed: int = 0
) -> tuple[Predicted, Predicted]:
    """Pseudo-labels of random `people` before and after correction, without those whose image cannot be read."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(people))[:MAX_UNLABELED])
    chosen, settings = choose_device(device), run.settings
    size = (settings.input_size[0], settings.input_size[1])
    store = CropStore(people.select(rows), size, device=chosen, strict=False)
    try:
        pseudo_labels = _pseudo_labels(method.to(chosen), store, settings)
    finally:
        store.close()
    before, after = (Predicted(store.people, poses, len(people)) for poses in pseudo_labels)
    return before, after


def _pseudo_labels(method: Method, store: CropStore, settings: Settings) -> list[Poses]:
    """Poses of all people in `store`, before and after correction."""
    parts: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[], []]
    for rows in np.array_split(np.arange(len(store)), max(1, -(-len(store) // _BATCH))):
        view = crops_of(store, rows).canonical()
        outputs = method.pseudo_labels(view.image)
        assert outputs is not None
        to_image = (view.affine @ Affine(store.affines[rows].double().numpy())).inverse()
        for part, fields in zip(parts, outputs, strict=True):
            keypoints, scores = method.codec(view, fields).decode(fields, settings.decode)
            part.append((to_image.points(keypoints).cpu(), scores.cpu()))
    return [posed(store, *(torch.cat(each) for each in zip(*part, strict=True))) for part in parts]


def errors(run: Run, before: Predicted, after: Predicted) -> tuple[dict[str, dict[str, float]], int]:
    """Scores of both against hidden labels, and the number of people that have some; ({}, 0) without any."""
    hidden = hidden_labels(run, before.people)
    if hidden is None:
        return {}, 0
    rows, truth = hidden
    values = {
        name: dict(score(sample.poses[rows], truth, run.skeleton, resamples=0).values)
        for name, sample in (("before", before), ("after", after))
    }
    return values, len(rows)


def hidden_labels(run: Run, people: People) -> tuple[NDArray[np.int64], Poses] | None:
    """Rows of unlabeled `people` that are labeled in the file which `--split` divided, and their labels.

    None without such people. To be called after training only.
    """
    arguments = run.record.data.arguments or {}
    if not arguments.get("split"):
        return None
    try:
        labeled = load_labels(arguments["labels"], arguments["images"], skeleton_file=arguments["skeleton"])
    except DataError:  # labels that training does not read may be unsound
        return None
    # Unlabeled people have other ids: image and box identify them.
    known = {key: row for row, key in enumerate(_identities(labeled))}
    matched = np.array([known.get(key, -1) for key in _identities(people)], np.int64)
    rows = np.flatnonzero((matched >= 0) & (labeled.poses.visible[matched] > 0).any(1))
    truth = labeled.poses[matched[rows]]
    truth.ids, truth.image_ids = people.poses.ids[rows], people.poses.image_ids[rows]
    return (rows, truth) if len(rows) else None


def _identities(people: People) -> list[tuple[str, ...]]:
    """Image file and box of each person."""
    files = [people.images.files[image] for image in people.image_index]
    return [(file, *(f"{value:.1f}" for value in box)) for file, box in zip(files, people.poses.boxes, strict=True)]


def _pair(before: Predicted, after: Predicted, row: int, run: Run, moved: float) -> Picture:
    tile = person_tile(image_of(before, row), before.poses.boxes[row], TILE)
    pair = [draw(tile.pixels, tile.move(sample.poses[[row]]), run.skeleton) for sample in (before, after)]
    name = file_name_of(before, row)
    return Picture.of(
        contact_sheet(pair, 2, gap=0),
        f"Pseudo-labels before and after correction on {name}",
        f"moved by {moved:.1f} % of the box on average, {name}",
    )
