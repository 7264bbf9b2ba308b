"""A trained model: read from a checkpoint file, it predicts poses in images, folders, arrays and videos."""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from semipose.codecs.heatmap import Decoding
from semipose.codecs.rescoring import Rescorer
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.errors import DataError, SemiposeError, UsageError
from semipose.formats.video import Clip, is_video
from semipose.inference.kind import NetworkKind, kind_of
from semipose.inference.options import DEFAULTS, EvalOptions
from semipose.networks.build import build_network
from semipose.networks.ensemble import Ensemble
from semipose.networks.network import PoseNetwork
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.system.device import choose_device
from semipose.system.tensor_file import load

Frame = tuple[int, NDArray[np.uint8]]
Source = str | Path | NDArray[np.uint8] | Sequence[str | Path]

# Frames are written to a temporary folder; a whole film would fill the disk.
FRAMES_PER_CHUNK = 64
# A damaged or hostile checkpoint must not allocate all memory: sides of the input in px, width, channels of the head.
MAX_SIDE, MAX_WIDTH, MAX_CHANNELS, MAX_MEMBERS = 4096, 8.0, 8192, 8
# Options of networks in a checkpoint's header.
_NETWORK_OPTIONS = {"head": str, "backbone": str, "fine": bool, "adaptive": bool, "identity_init": bool}


@dataclass
class Model:
    """A network with everything needed to use it: its skeleton and input size (H, W) px.

    - `name`: its role in the run ("teacher", "student", ...).
    - `update`: the update of the run after which it was saved.
    - `values`: its scores on the run's validation people at that update; empty without validation.
    - `file`: the checkpoint that it was read from.
    - `rescorer`: for DEKR, predicts the OKS of a person from its shape; its people's scores are multiplied by that.
    """

    network: PoseNetwork
    skeleton: Skeleton
    input_size: tuple[int, int]
    name: str = "network"
    update: int = 0
    values: dict[str, float] = field(default_factory=dict)
    file: Path | None = None
    rescorer: Rescorer | None = None

    @classmethod
    def load(cls, path: str | Path) -> "Model":
        """Read a checkpoint `best-NAME.safetensors` or `last-NAME.safetensors` of a run's folder."""
        path = Path(path)
        header, weights = _read(path)
        try:
            skeleton, size = Skeleton.from_dict(header["skeleton"]), _size(header["input_size"])
            network = _build(header["network"], skeleton)
            name, update, values = str(header["name"]), int(header["update"]), dict(header.get("values") or {})
        except (KeyError, TypeError, ValueError, SemiposeError) as error:
            raise DataError(f"{path}: its header cannot be used ({error!r}); {_EXPECTED}") from error
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            first = " ".join(line.strip() for line in str(error).strip().splitlines()[1:3])
            raise DataError(
                f"{path}: the weights do not fit the network of its header, {header['network']}: {first}; {_EXPECTED}"
            ) from error
        # In training's layout: a CPU is up to a quarter faster in it.
        network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(network, skeleton, size, name, update, values, path)

    def predict(
        self,
        source: Source,
        boxes: Any = None,
        detections: str | Path | None = None,
        device: str = "auto",
        flip_test: bool = False,
        batch_size: int = 64,
        decode: Decoding = "dark",
        scales: Sequence[float] = (1.0,),
    ) -> Poses:
        """Predict the poses of all people in `source`, in pixels of the images.

        - `source`: an image file, a folder, a glob, a list of files, a video file, or one image. An image is an array
          (H, W, 3) uint8 **RGB**. OpenCV reads BGR: give `image[..., ::-1]`.
        - `boxes`: (N, 4) x, y, width, height px, for one image only.
        - `detections`: a json of boxes. Without boxes each whole image is one person. A detector-free network finds
          people itself and takes no boxes; its people's scores are `box_scores`.
        - `scales`: sizes in which a detector-free network sees an image, relative to its own input size.

        `image_ids` of the result are the ids of a json or the frame numbers of a video (from 0). Other images are
        numbered from 1 in the order given (in a folder: sorted by path).

        >>> model.predict("frames/").keypoints.shape  # doctest: +SKIP
        (120, 14, 2)
        """
        options = EvalOptions(
            device=device, flip_test=flip_test, batch_size=batch_size, decode=decode, scales=tuple(scales)
        )
        if isinstance(source, np.ndarray):
            with tempfile.TemporaryDirectory() as folder:
                return self._predict_files([_save_array(source, Path(folder))], boxes, None, options)
        if isinstance(source, str | Path) and is_video(source):
            if boxes is not None or detections is not None:
                raise UsageError(f"{source}: boxes and detections are for images; cut the video into frames first.")
            return Poses.concatenate([poses for _, poses in self.watch(source, options)])
        sources = [source] if isinstance(source, str | Path) else list(source)
        return self._predict_files(sources, boxes, detections, options)

    def _predict_files(
        self, files: list[str | Path], boxes: Any, detections: str | Path | None, options: EvalOptions
    ) -> Poses:
        """Predict the people in image files; `boxes` are for one image only."""
        self.check_boxes(boxes, detections)
        people = self.kind.read_inputs(files, self.skeleton, detections)
        return self.predict_people(people if boxes is None else with_boxes(people, boxes), options)

    def predict_people(self, people: People, options: EvalOptions = DEFAULTS) -> Poses:
        """Predict the poses of `people` in their order, leaving out those whose image cannot be decoded.

        A detector-free network returns the people that it detects in their images instead. A warning names the images
        that were left out.
        """
        if self.kind.rows.count(people) == 0:
            return Poses.empty(len(self.skeleton))
        store = self.store(people, options)
        if store.unreadable:
            warnings.warn(
                f"{len(store.unreadable)} image(s) could not be decoded and were left out: "
                f"{', '.join(store.unreadable[:5])}",
                stacklevel=2,
            )
        return self.predict_store(store, options)

    def predict_store(self, store: CropStore, options: EvalOptions = DEFAULTS) -> Poses:
        """Predict the poses of the people in `store`, which was made with the same `options`, and close it."""
        try:
            self.kind.check_options(self.network_name, options, self.input_size)
            return self.kind.predict(self.network.to(store.device), store, self.skeleton, options, self.rescorer)
        finally:
            store.close()

    @property
    def kind(self) -> NetworkKind:
        """Kind of the network: for one person in a crop, or for all people in a whole image."""
        return kind_of(self.network_name)

    @property
    def network_name(self) -> str:
        """The network's name, such as "resnet18"."""
        return str(self.network.config.get("name", "the ensemble"))

    def check_boxes(self, boxes: Any = None, detections: Any = None) -> None:
        """Raise a UsageError if people's boxes are given to a network that takes none."""
        self.kind.check_boxes(self.network_name, boxes is not None or detections is not None)

    def store(self, people: People, options: EvalOptions = DEFAULTS, strict: bool = False) -> CropStore:
        """Return the network's input: crops of `people`, or the whole images that they are in.

        With `strict` an image that cannot be decoded is an error, else its rows are left out.
        """
        self.kind.check_options(self.network_name, options, self.input_size)
        return self.kind.store(
            self.kind.store_rows(people),
            self.input_size,
            scale=max(options.scales),
            device=choose_device(options.device),
            strict=strict,
        )

    def watch(self, video: str | Path | Clip, options: EvalOptions = DEFAULTS) -> Iterator[tuple[list[Frame], Poses]]:
        """Predict a video some frames at a time: (frames as number and picture (H, W, 3) BGR, their poses).

        `image_ids` of the poses are the numbers of the frames, from 0. Each frame is one person, unless the network
        detects people itself.
        """
        numbered = (video if isinstance(video, Clip) else Clip(video)).frames()
        while chunk := list(islice(numbered, FRAMES_PER_CHUNK)):
            with tempfile.TemporaryDirectory() as folder:
                files = save_frames([frame for _, frame in chunk], Path(folder))
                poses = self._predict_files(list(files), None, None, options)
            # Files sort as they were numbered, so image n, counted from 1, is frame n - 1 of this chunk.
            poses.image_ids = np.array([number for number, _ in chunk], np.int64)[poses.image_ids - 1]
            yield chunk, poses


_EXPECTED = "expected a checkpoint of semipose, checkpoints/best-NAME.safetensors of a run's folder."


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read the json header and the tensors; safetensors holds no code, so files from strangers are safe to read."""
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint; {_EXPECTED}")
    weights, header = load(path)
    if not isinstance(header, dict):
        raise DataError(f"{path}: its header is a json {type(header).__name__}; {_EXPECTED}")
    return header, weights


def _size(value: Any) -> tuple[int, int]:
    height, width = (int(side) for side in value)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ValueError(f"input size {height}x{width}, expected sides of 1 to {MAX_SIDE} px")
    return height, width


def _build(config: Any, skeleton: Skeleton) -> PoseNetwork:
    if "members" in config:
        if not 0 < len(config["members"]) <= MAX_MEMBERS:
            raise ValueError(f"an ensemble of {len(config['members'])} networks, expected 1 to {MAX_MEMBERS}")
        return Ensemble([_build_one(member, skeleton) for member in config["members"]])
    return _build_one(config, skeleton)


def _build_one(config: Any, skeleton: Skeleton) -> PoseNetwork:
    width, channels = float(config["width"]), int(config["head_channels"])
    if not (0 < width <= MAX_WIDTH and 0 < channels <= MAX_CHANNELS):
        raise ValueError(
            f"width {width:g} with {channels} head channels, expected at most {MAX_WIDTH:g} and {MAX_CHANNELS}"
        )
    options = {name: config[name] for name in _NETWORK_OPTIONS if name in config}
    if any(not isinstance(value, _NETWORK_OPTIONS[name]) for name, value in options.items()):
        raise ValueError(f"network options {options}, expected names of a head or backbone, else true or false")
    return build_network(str(config["name"]), skeleton, width=width, head_channels=channels, **options)


def with_boxes(people: People, boxes: Any) -> People:
    """Return the one image of `people` with people at `boxes` (N, 4) x, y, width, height px."""
    boxes = np.asarray(boxes, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all() or not (boxes[:, 2:] > 0).all():
        raise UsageError(f"boxes: found shape {boxes.shape}; expected (N, 4), each x, y, width, height in px above 0.")
    if len(people.images) != 1:
        raise UsageError(f"boxes: given for {len(people.images)} images; expected one. For more, give `detections`.")
    poses = Poses.blank(len(boxes), people.poses.keypoints.shape[1])
    poses.boxes, poses.ids = boxes, np.arange(len(boxes), dtype=np.int64)
    poses.areas = boxes[:, 2] * boxes[:, 3]
    poses.image_ids = np.repeat(people.images.ids, len(boxes))
    return People(people.images, np.zeros(len(boxes), np.int64), poses, people.skeleton, "given", people.source)


def save_frames(frames: Sequence[NDArray[np.uint8]], folder: Path) -> list[Path]:
    """Write `frames` (BGR) as lossless files to `folder`, numbered so that their names sort in order."""
    files = [folder / f"{number:06d}.png" for number in range(len(frames))]
    for file, frame in zip(files, frames, strict=True):
        cv2.imwrite(str(file), frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return files


def _save_array(image: NDArray[np.uint8], folder: Path) -> Path:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UsageError(f"an image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 in RGB.")
    return save_frames([np.ascontiguousarray(image[..., ::-1])], folder)[0]
