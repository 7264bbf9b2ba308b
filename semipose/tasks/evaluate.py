"""A trained run scored on labeled people, with everything said that the numbers depend on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from semipose.data.people import People
from semipose.errors import DataError, UsageError
from semipose.formats.labels import load_labels
from semipose.metrics.score import Score, score
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.runs.open_model import as_model
from semipose.runs.run import Run
from semipose.system.files import write_json

if TYPE_CHECKING:
    from semipose.inference.model import Model


def evaluate(
    run: "Run | Model | str | Path",
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

    `run` is a run folder, a `Run` or a `Model`; of a run, `which` is "best" or "last" (of the deployed network) or a
    network's name. People are looked for in the json's boxes, or found by a detector-free network in the whole images,
    where they are scored by OKS-AP; `easy_below` is the crowdIndex below which an image is easy, default 0.2, in
    CrowdPose's paper 0.1, and `scales` the sizes in which the images are looked at, as shares of the network's own.
    With `rescore` people's scores are those that DEKR's rescoring learns from the run's labeled images.
    `out` writes all of it as json: the metrics as flat
    keys ("pck@0.1", "oks_ap", ...), then per_keypoint, intervals, counts and how they were measured.
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size}: expected at least 1.")
    model = as_model(run, which, rescore, device)
    if model.detector_free:
        model.refuse_boxes(detections=detections)
        people = load_labels(labels, images, include_ignored=True)
        _check_keypoints(model.skeleton, people, labels)
        result = _score_images(
            model,
            people,
            easy_below,
            device=device,
            flip_test=flip_test,
            batch_size=batch_size,
            decode=decode,
            scales=scales,
        )
        how = {"flip_test": flip_test, "scales": list(scales), "rescored": rescore, "which": which}
        return _written(result, out, _provenance(model, people) | how)
    if easy_below is not None:
        raise UsageError(f"--easy-below {easy_below:g}: is for networks that find people themselves; leave it out.")
    model.refuse_scales(scales)
    people = load_labels(labels, images, detections=detections)
    _check_keypoints(model.skeleton, people, labels)
    predicted = _predict(model, people, device=device, flip_test=flip_test, batch_size=batch_size, decode=decode)
    # The run's skeleton: its sigmas and sides are those that training chose its checkpoint with.
    result = score(predicted, people.poses, model.skeleton)
    how = _provenance(model, people) | {"flip_test": flip_test, "decode": decode, "which": which}
    return _written(result, out, how)


def _written(result: Score, out: str | Path | None, how: dict[str, Any]) -> Score:
    if out is not None:
        write_json(out, flat(result, how))
    return result


def _score_images(model: "Model", people: People, easy_below: float | None, *, device: str, **options: Any) -> Score:
    """Score whom a detector-free network finds in all images of `people`."""
    from semipose.inference.predict import score_whole_images
    from semipose.system.device import choose_device

    store = model.store(people, choose_device(device), strict=True, scales=options["scales"])
    found = model.predict_store(store, **options)
    return score_whole_images(found, people, model.skeleton, easy_below=easy_below)


def flat(result: Score, how: dict[str, Any]) -> dict[str, Any]:
    """`result` as one json object: metrics as top-level keys, so that scripts need no path into it."""
    rest = {key: value for key, value in result.to_dict().items() if key != "values"}
    return {**result.values, **rest, **how}


def _predict(model: "Model", people: People, **options: Any) -> Poses:
    from semipose.inference.predict import predict_people
    from semipose.system.device import choose_device

    device = choose_device(options.pop("device"))
    return predict_people(
        model.network.to(device), people, size=model.input_size, device=device, skeleton=model.skeleton, **options
    )


def _check_keypoints(skeleton: Skeleton, people: People, labels: str | Path) -> None:
    """The same names in the same order, or a PCK would compare knees with elbows."""
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


def _provenance(model: "Model", people: People) -> dict[str, Any]:
    return {
        "labels": people.source,
        "boxes": "none" if model.detector_free else people.box_source,
        "checkpoint": str(model.file) if model.file else None,
        "network": model.name,
        "update": model.update,
        "sigmas": {
            "source": model.skeleton.sigmas_source,
            "values": dict(zip(model.skeleton.keypoints, model.skeleton.sigmas, strict=True)),
        },
    }
