"""Detector-free networks: whole images in, the poses of all people in them out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semipose.codecs.choose import scene_codec
from semipose.codecs.rescoring import Rescorer
from semipose.config.settings import DETECTOR_FREE
from semipose.crops.crop import CropFrame
from semipose.crops.store import CropStore
from semipose.crops.whole_images import WholeImageStore, one_row_per_image
from semipose.data.boxes import box_areas, keypoint_hulls
from semipose.data.people import People
from semipose.drawing import draw, left_to_right, person_colors
from semipose.errors import UsageError
from semipose.formats.load import Data
from semipose.formats.rows import FilePath, ImageRows
from semipose.formats.unlabeled import load_unlabeled
from semipose.inference.options import DEFAULTS, EvalOptions
from semipose.inference.outputs import outputs_of
from semipose.metrics.multi_person import score_multi_person
from semipose.metrics.score import Score
from semipose.networks import STRIDE_MULTIPLE
from semipose.networks.network import PoseNetwork
from semipose.pose.crowding import CROWDING_LIMITS
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.scene import DetectedPeople
from semipose.views.view import SceneCrops

MAX_SCALE = 4.0


class DetectorFree:
    """Networks that find all people in whole images; see `semipose.inference.kind.NetworkKind`."""

    rules = DETECTOR_FREE
    rows = ImageRows()
    crops = SceneCrops
    batch_size = 16
    pictures = "whole_images"
    # The detected people are no rows of the labels, so image and score are kept too.
    predicted_fields = ("keypoints", "scores", "image_ids", "box_scores")
    rescored = False

    def training_data(self, data: Data) -> Data:
        """Return `data` with everything to ignore, read again if it was loaded for crops."""
        return data.for_whole_images()

    def store_rows(self, people: People) -> People:
        """Return one blank person per image, whose box is the image."""
        return one_row_per_image(people)

    def store(
        self, rows: People, size: tuple[int, int], *, truth: People | None = None, scale: float = 1.0, **options: Any
    ) -> CropStore:
        """Return the images of `rows` for views of `scale` times `size`, with the people of `truth` in them."""
        size = round(size[0] * scale), round(size[1] * scale)
        return WholeImageStore(rows, size, all_people=truth, **options)

    def frame(self, size: tuple[int, int]) -> CropFrame:
        """Return the frame of crops: the whole image."""
        return WholeImageStore.frame_of(size)

    def read_inputs(self, sources: list[FilePath], skeleton: Skeleton, detections: FilePath | None) -> People:
        """Read one row per image, without boxes."""
        return load_unlabeled(sources, skeleton=skeleton, detections=detections, sampling=None, whole_images=True)

    def box_source(self, given: str) -> str:
        """Return "none"."""
        return "none"

    def check_boxes(self, network: str, given: bool) -> None:
        """Raise a UsageError if boxes are given."""
        if given:
            raise UsageError(f"boxes or detections are given, and {network} finds people itself; leave them out.")

    def check_options(self, network: str, options: EvalOptions, size: tuple[int, int]) -> None:
        """Raise a UsageError if a way of decoding is chosen, or scales that do not suit the input `size` (H, W)."""
        if options.decode != DEFAULTS.decode:
            raise UsageError(f"decode {options.decode}: {network} has a decoding of its own; leave it out.")
        checked_scales(options.scales, size)

    def check_easy_below(self, easy_below: float | None) -> None:
        """Accept any limit: `score` checks it against the images."""

    def check_export(self, network: str) -> None:
        """Raise a UsageError: several fields together make people."""
        raise UsageError(
            f"{network} finds people by several fields, and the file would hold one person's heatmaps; "
            "export is for networks of one person."
        )

    def predict(
        self,
        network: PoseNetwork,
        store: CropStore,
        skeleton: Skeleton,
        options: EvalOptions,
        rescorer: Rescorer | None = None,
    ) -> Poses:
        """Detect the people in each image."""
        return find_people(network, store, skeleton, options, rescorer)

    def score(
        self,
        predicted: Poses,
        truth: People,
        skeleton: Skeleton,
        resamples: int = 1000,
        easy_below: float | None = None,
    ) -> Score:
        """Score the people detected in all images of `truth` by OKS-AP, by crowding if the images have a crowdIndex.

        `easy_below` is the crowdIndex below which an image is easy, default 0.2. Raises UsageError if it is not above 0
        and below 0.8, or if the images have no crowdIndex.
        """
        given = [extra.get("crowdIndex") for extra in truth.images.extra]
        index = None if all(one is None for one in given) else np.array(given, float)
        easy, hard = CROWDING_LIMITS[0] if easy_below is None else easy_below, CROWDING_LIMITS[1]
        if not 0 < easy < hard or (easy_below is not None and index is None):
            why = f"expected above 0, below {hard:g}" if index is not None else f"{truth.source} has no crowdIndex"
            raise UsageError(f"--easy-below {easy:g}: {why}.")
        return score_multi_person(
            predicted,
            truth.poses,
            skeleton,
            truth.images.ids,
            crowd_index=index,
            limits=(easy, hard),
            resamples=resamples,
        )

    def record(self, options: EvalOptions) -> dict[str, Any]:
        """Return the options that scores depend on."""
        return {"flip_test": options.flip_test, "scales": list(options.scales), "rescored": options.rescore}

    def confident_people(self, poses: Poses) -> Poses:
        """Drop people with a low score."""
        return poses.confident()

    def draw(self, image: NDArray[np.uint8], poses: Poses, skeleton: Skeleton) -> NDArray[np.uint8]:
        """Draw the confident people of `poses` on `image` (H, W, 3) RGB, each in a color of its own."""
        # The order of scores changes from frame to frame of a video; from left to right colors are steadier.
        poses = left_to_right(poses.confident())
        return draw(image, poses, skeleton, colors=person_colors(len(poses)))


def find_people(
    network: PoseNetwork,
    store: CropStore,
    skeleton: Skeleton,
    options: EvalOptions = DEFAULTS,
    rescorer: Rescorer | None = None,
) -> Poses:
    """Detect all people in the images of `store`, in each image the highest score first.

    The store's size is that of the largest of `options.scales`; the network's own scale 1 counts as the first.
    `rescorer` scores DEKR's poses. `box_scores` are the people's scores, `boxes` the enlarged hulls of their keypoints;
    ids count from 1.
    """
    scales = own_scale_first(options.scales)
    largest = max(scales)
    sizes = [(round(store.size[0] * scale / largest), round(store.size[1] * scale / largest)) for scale in scales]
    parts = [Poses.empty(len(skeleton))]
    with torch.no_grad():
        for rows, outputs, to_image in outputs_of(network, store, options.batch_size, options.flip_test, sizes):
            detected = scene_codec(outputs[0], sizes[0], skeleton, rescorer).decode_scales(outputs)
            points = (detected.keypoints.flatten(1, 2).to(store.device) + 0.5) * largest - 0.5
            keypoints = to_image.points(points).cpu().view(detected.keypoints.shape)
            parts.append(_poses(detected, keypoints, store.people.poses.image_ids[rows]))
    people = Poses.concatenate(parts)
    people.ids, people.areas = np.arange(1, len(people) + 1), box_areas(people.boxes)
    return people


def checked_scales(scales: Sequence[float], size: tuple[int, int]) -> tuple[float, ...]:
    """Return `scales` with 1, the network's own `size` (H, W), first; raise UsageError for unsuitable ones."""
    given = f"--scales {' '.join(f'{scale:g}' for scale in scales)}: "
    if 1 not in scales or len(set(scales)) < len(scales) or not all(0 < scale <= MAX_SCALE for scale in scales):
        raise UsageError(
            f"{given}expected 1, the network's own size, and others above 0, up to {MAX_SCALE:g}, each once."
        )
    for scale in scales:
        if any(side * scale % STRIDE_MULTIPLE for side in size):
            raise UsageError(
                f"{given}{scale:g} of {size[0]}x{size[1]} is {size[0] * scale:g}x{size[1] * scale:g}; both "
                f"sides must be multiples of {STRIDE_MULTIPLE}."
            )
    return own_scale_first(scales)


def own_scale_first(scales: Sequence[float]) -> tuple[float, ...]:
    """Return `scales` with 1 first: the codec takes the first fields for those of the network's own size."""
    return (1.0, *(scale for scale in scales if scale != 1))


def _poses(detected: DetectedPeople, keypoints: Tensor, image_ids: NDArray[np.int64]) -> Poses:
    """Return the people `detected` in images `image_ids` (B,), at `keypoints` (B, M, K, 2) in image pixels."""
    image, person = np.nonzero(detected.person.numpy() > 0)
    poses = Poses.blank(len(image), keypoints.shape[2])
    poses.keypoints, poses.scores = keypoints.numpy()[image, person], detected.scores.numpy()[image, person]
    poses.box_scores, poses.image_ids = detected.person.numpy()[image, person], image_ids[image]
    poses.visible = np.where(poses.scores > 0, np.uint8(2), np.uint8(0))
    poses.boxes, has_hull = keypoint_hulls(poses.keypoints, poses.visible)
    # A single point has no hull, and a box must not be empty.
    point = poses.keypoints[np.arange(len(poses)), poses.visible.argmax(1)]
    poses.boxes[~has_hull] = np.concatenate([point - 0.5, np.ones_like(point)], 1)[~has_hull]
    return poses
