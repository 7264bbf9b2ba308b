"""The kinds of network: what each trains on, how it predicts, what it refuses, and how its poses are scored and drawn.

Ask `kind_of` for the object instead of testing a network's name. A new kind is a class with these members.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semipose.codecs.rescoring import Rescorer
from semipose.config.settings import KindRules, rules_of
from semipose.crops.crop import CropFrame
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.formats.load import Data
from semipose.formats.rows import RowKind
from semipose.inference.detector_free import DetectorFree
from semipose.inference.options import EvalOptions
from semipose.inference.top_down import TopDown
from semipose.metrics.score import Score
from semipose.networks.network import PoseNetwork
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.views.view import Crops


class NetworkKind(Protocol):
    """Everything that differs between kinds of network; `network` in a method's arguments is a name for messages."""

    @property
    def rules(self) -> KindRules:
        """Defaults and limits of its settings."""
        ...

    @property
    def rows(self) -> RowKind:
        """Kind of its streams' rows, people or images; `rows.unit` is the unit of its batches."""
        ...

    @property
    def crops(self) -> type[Crops]:
        """The class of a stream's batch, which methods see."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows per pass while a run evaluates."""
        ...

    @property
    def pictures(self) -> str:
        """Name of the module of `semipose.report` that draws its predictions."""
        ...

    @property
    def predicted_fields(self) -> tuple[str, ...]:
        """Names of the arrays of `Poses` that a prediction sets."""
        ...

    @property
    def rescored(self) -> bool:
        """Whether COCO results multiply the box score by the mean of confident keypoints."""
        ...

    def training_data(self, data: Data) -> Data:
        """Return `data` as this kind of network needs it."""
        ...

    def store_rows(self, people: People) -> People:
        """Return the rows of a store of `people`, which were read with labels."""
        ...

    def store(
        self, rows: People, size: tuple[int, int], *, truth: People | None = None, scale: float = 1.0, **options: Any
    ) -> CropStore:
        """Return a store of `rows` for input of `scale` times `size` (H, W) px; `options` are those of `CropStore`.

        `truth` are the labeled people of these rows, None without labels.
        """
        ...

    def frame(self, size: tuple[int, int]) -> CropFrame:
        """Return the frame of crops of such a store."""
        ...

    def read_inputs(self, sources: list[str | Path], skeleton: Skeleton, detections: str | Path | None) -> People:
        """Read images to predict, with their boxes if the network needs any."""
        ...

    def box_source(self, given: str) -> str:
        """Return where the boxes come from, as records state it; `given` is what the reader of the people says."""
        ...

    def check_boxes(self, network: str, given: bool) -> None:
        """Raise a UsageError if boxes are `given` to a network that takes none."""
        ...

    def check_options(self, network: str, options: EvalOptions, size: tuple[int, int]) -> None:
        """Raise a UsageError for options that a network of input `size` (H, W) does not have."""
        ...

    def check_easy_below(self, easy_below: float | None) -> None:
        """Raise a UsageError if the images' crowding is of no use to the scores."""
        ...

    def check_export(self, network: str) -> None:
        """Raise a UsageError if such a network cannot be exported."""
        ...

    def predict(
        self,
        network: PoseNetwork,
        store: CropStore,
        skeleton: Skeleton,
        options: EvalOptions,
        rescorer: Rescorer | None = None,
    ) -> Poses:
        """Predict the poses of the people in `store`, in image pixels."""
        ...

    def score(
        self,
        predicted: Poses,
        truth: People,
        skeleton: Skeleton,
        resamples: int = 1000,
        easy_below: float | None = None,
    ) -> Score:
        """Score `predicted` against the labels `truth`; `resamples` of the bootstrap, 0 for no intervals."""
        ...

    def record(self, options: EvalOptions) -> dict[str, Any]:
        """Return the options that scores depend on, for json."""
        ...

    def confident_people(self, poses: Poses) -> Poses:
        """Return the people worth showing and correcting."""
        ...

    def draw(self, image: NDArray[np.uint8], poses: Poses, skeleton: Skeleton) -> NDArray[np.uint8]:
        """Draw `poses` on `image` (H, W, 3) RGB."""
        ...


def kind_of(network: str) -> NetworkKind:
    """Return the kind of the network of this name.

    >>> kind_of("resnet18").rows.unit, kind_of("dekr").rows.unit
    ('people', 'images')
    """
    return DetectorFree() if rules_of(network) is DetectorFree.rules else TopDown()
