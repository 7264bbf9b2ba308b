"""Score a trained run on labeled people, with a record of everything the numbers depend on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from semipose.data.people import People
from semipose.errors import DataError
from semipose.inference.model import Model
from semipose.inference.options import EvalOptions
from semipose.metrics.score import Score
from semipose.pose.skeleton import Skeleton
from semipose.runs.open_model import as_model
from semipose.runs.run import Run
from semipose.system.files import write_json


def evaluate(
    run: Run | Model | str | Path,
    labels: str | Path,
    images: str | Path,
    *,
    flip_test: bool = False,
    decode: Literal["dark", "quarter"] = "dark",
    out: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 64,
    which: str = "best",
    detections: str | Path | None = None,
    easy_below: float | None = None,
    scales: Sequence[float] = (1.0,),
    rescore: bool = False,
) -> Score:
    """Score a run on the people of COCO json `labels`, whose pictures are in folder `images`.

    A network for one person in a crop predicts a pose in each box. A detector-free network finds people itself, and is
    scored by OKS-AP.

    - `run`: a run folder, a `Run` or a `Model`.
    - `which`: "best" or "last" (of the deployed network), or a network's name.
    - `detections`: boxes that replace those of the json.
    - `easy_below`: crowdIndex below which an image is easy; default 0.2, in CrowdPose's paper 0.1.
    - `scales`: sizes in which a detector-free network sees the images, relative to its own input size.
    - `rescore`: score people by DEKR's rescoring, learned from the run's labeled images.
    - `out`: json file for the metrics as flat keys ("pck@0.1", "oks_ap", ...), then per_keypoint, intervals, counts and
      how they were measured.
    """
    options = EvalOptions(
        device=device, flip_test=flip_test, batch_size=batch_size, decode=decode, scales=tuple(scales), rescore=rescore
    )
    model = as_model(run, which, options)
    kind = model.kind
    kind.check_easy_below(easy_below)
    model.check_boxes(detections=detections)
    people = kind.rows.read_labels(labels, images, detections=detections)
    _check_keypoints(model.skeleton, people, labels)
    predicted = model.predict_store(model.store(people, options, strict=True), options)
    # The run's skeleton: training chose its checkpoint with these sigmas and sides.
    result = kind.score(predicted, people, model.skeleton, easy_below=easy_below)
    if out is not None:
        write_json(out, flat(result, _provenance(model, people) | kind.record(options) | {"which": which}))
    return result


def flat(result: Score, how: dict[str, Any]) -> dict[str, Any]:
    """Return `result` as one json object with the metrics as top-level keys, which scripts find easily."""
    rest = {key: value for key, value in result.to_dict().items() if key != "values"}
    return {**result.values, **rest, **how}


def _check_keypoints(skeleton: Skeleton, people: People, labels: str | Path) -> None:
    """Raise a DataError unless names and order agree: a PCK must not compare knees with elbows."""
    found = people.skeleton.keypoints if people.skeleton else ()
    if found == skeleton.keypoints:
        return
    if set(found) == set(skeleton.keypoints):
        detail = (
            f"the run's {len(skeleton)} keypoints in another order: {', '.join(found)}. "
            f"Reorder them (and the numbers of each annotation) to {', '.join(skeleton.keypoints)}."
        )
    else:
        missing = [name for name in skeleton.keypoints if name not in found]
        unknown = [name for name in found if name not in skeleton.keypoints]
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has also {', '.join(unknown)}"] * bool(unknown)
        detail = (
            f"{len(found)} keypoints where the run has {len(skeleton)}: it {' and '.join(parts)}. "
            "Evaluate on labels of the keypoints that the run was trained with."
        )
    raise DataError(f"{labels}: its category {people.skeleton.name if people.skeleton else '?'!r} names {detail}")


def _provenance(model: Model, people: People) -> dict[str, Any]:
    return {
        "labels": people.source,
        "boxes": model.kind.box_source(people.box_source),
        "checkpoint": str(model.file) if model.file else None,
        "network": model.name,
        "update": model.update,
        "sigmas": {
            "source": model.skeleton.sigmas_source,
            "values": dict(zip(model.skeleton.keypoints, model.skeleton.sigmas, strict=True)),
        },
    }
