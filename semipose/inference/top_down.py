"""Networks for one person in a crop: crops of given boxes in, a pose for each out."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semipose.codecs.heatmap import HeatmapCodec
from semipose.codecs.rescoring import Rescorer
from semipose.config.settings import TOP_DOWN
from semipose.crops.crop import CropFrame
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.drawing import draw
from semipose.errors import UsageError
from semipose.formats.load import Data
from semipose.formats.rows import FilePath, PeopleRows
from semipose.formats.unlabeled import load_unlabeled
from semipose.inference.options import DEFAULTS, EvalOptions
from semipose.inference.outputs import outputs_of, posed
from semipose.metrics.score import Score, score
from semipose.networks.network import PoseNetwork
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.views.view import Crops


class TopDown:
    """Networks that see one person in a crop; see `semipose.inference.kind.NetworkKind`."""

    rules = TOP_DOWN
    rows = PeopleRows()
    crops = Crops
    batch_size = 64
    pictures = "crops"
    predicted_fields = ("keypoints", "scores")
    rescored = True

    def training_data(self, data: Data) -> Data:
        """Return `data` as it is."""
        return data

    def store_rows(self, people: People) -> People:
        """Return `people`: each is a crop."""
        return people

    def store(
        self, rows: People, size: tuple[int, int], *, truth: People | None = None, scale: float = 1.0, **options: Any
    ) -> CropStore:
        """Return the crops of `rows`; their own labels are the truth, and they have one size."""
        return CropStore(rows, size, **options)

    def frame(self, size: tuple[int, int]) -> CropFrame:
        """Return the frame of crops: a margin around each box."""
        return CropStore.frame_of(size)

    def read_inputs(self, sources: list[FilePath], skeleton: Skeleton, detections: FilePath | None) -> People:
        """Read the boxes of a json or of `detections`; without either each image is one person."""
        return load_unlabeled(sources, skeleton=skeleton, detections=detections, sampling=None)

    def box_source(self, given: str) -> str:
        """Return `given`."""
        return given

    def check_boxes(self, network: str, given: bool) -> None:
        """Accept boxes."""

    def check_options(self, network: str, options: EvalOptions, size: tuple[int, int]) -> None:
        """Raise a UsageError if several scales are chosen."""
        if options.scales != (1.0,):
            raise UsageError(
                f"--scales {' '.join(f'{scale:g}' for scale in options.scales)}: is for networks that find people "
                f"themselves, and {network} sees each person in a crop of one size; leave it out."
            )

    def check_easy_below(self, easy_below: float | None) -> None:
        """Raise a UsageError if a limit of easy images is given."""
        if easy_below is not None:
            raise UsageError(f"--easy-below {easy_below:g}: is for networks that find people themselves; leave it out.")

    def check_export(self, network: str) -> None:
        """Accept the export: its graph returns one person's heatmaps."""

    def predict(
        self,
        network: PoseNetwork,
        store: CropStore,
        skeleton: Skeleton,
        options: EvalOptions,
        rescorer: Rescorer | None = None,
    ) -> Poses:
        """Predict one pose for each crop, in their order."""
        return predict_people(network, store, skeleton, options)

    def score(
        self,
        predicted: Poses,
        truth: People,
        skeleton: Skeleton,
        resamples: int = 1000,
        easy_below: float | None = None,
    ) -> Score:
        """Score each predicted pose against the labels of the same person."""
        return score(predicted, truth.poses, skeleton, resamples=resamples)

    def record(self, options: EvalOptions) -> dict[str, Any]:
        """Return the options that scores depend on."""
        return {"flip_test": options.flip_test, "decode": options.decode}

    def confident_people(self, poses: Poses) -> Poses:
        """Return `poses`: their boxes were given."""
        return poses

    def draw(self, image: NDArray[np.uint8], poses: Poses, skeleton: Skeleton) -> NDArray[np.uint8]:
        """Draw `poses` on `image` (H, W, 3) RGB in the colors of the body's sides."""
        return draw(image, poses, skeleton)


def predict_people(
    network: PoseNetwork, store: CropStore, skeleton: Skeleton, options: EvalOptions = DEFAULTS
) -> Poses:
    """Predict the keypoints (N, K, 2) of the people in `store`, in image pixels, with peak heights as scores."""
    codec = HeatmapCodec.for_size(store.size, skeleton.flip, network.stride)
    keypoints, scores = [], []
    with torch.no_grad():
        outputs = outputs_of(network, store, options.batch_size, options.flip_test, [store.size])
        for _, (fields,), to_image in outputs:
            decoded, heights = codec.decode(fields, options.decode)
            keypoints.append(to_image.points(decoded).cpu())
            scores.append(heights.cpu())
    return posed(store, torch.cat(keypoints), torch.cat(scores))
