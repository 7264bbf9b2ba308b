"""A trained model: read from one checkpoint file, asked for poses in images, folders, arrays and videos."""

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
from semipose.crops.whole_images import WholeImageStore, one_row_per_image
from semipose.data.people import People
from semipose.errors import DataError, SemiposeError, UsageError
from semipose.formats.unlabeled import load_unlabeled
from semipose.formats.video import Clip, is_video
from semipose.inference.predict import checked_scales, find_people, predict_people
from semipose.networks.build import build_network
from semipose.networks.ensemble import Ensemble
from semipose.networks.network import PoseNetwork
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.system.device import choose_device
from semipose.system.tensor_file import load

Frame = tuple[int, NDArray[np.uint8]]
Source = str | Path | NDArray[np.uint8] | Sequence[str | Path]

FRAMES_AT_ONCE = 64  # frames lie in a temporary folder for a moment; a whole film would fill the disk
# A damaged or hostile checkpoint must not ask for all memory: sides of the input in px, width, channels of the head.
# Of detector-free networks.
_PARTS = {"backbone": str, "fine": bool, "adaptive": bool, "identity_init": bool}
LARGEST_SIDE, LARGEST_WIDTH, MOST_CHANNELS, MOST_MEMBERS = 4096, 8.0, 8192, 8


@dataclass
class Model:
    """A network with all that is needed to use it: its skeleton and input size (H, W) px.

    `name` is its role in the run ("teacher", "student", ...), `update` when it was saved, `values` its scores on the
    run's validation people then (empty when there were none), `file` where it was read from.
    """

    network: PoseNetwork
    skeleton: Skeleton
    input_size: tuple[int, int]
    name: str = "network"
    update: int = 0
    values: dict[str, float] = field(default_factory=dict)
    file: Path | None = None
    # Of DEKR, where its people's scores are learned ones.
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
        """The poses of every person in `source`, in pixels of the images.

        A detector-free network finds people itself and takes no boxes; `box_scores` are the people's. `source` is
        an image file, a folder, a glob, a list of files, a video file, or one image as an array
        (H, W, 3) uint8 **RGB** (an image read by OpenCV is BGR: give `image[..., ::-1]`). People are at `boxes`
        (N, 4) x, y, width, height px (for one image only), or where the `detections` json says, else each whole
        image is one person; `scales` are the sizes in which a detector-free network looks at images, as shares of its
        own. `image_ids` of the result: those of a json, the frame's number in a video (from 0),
        else the number of the image, from 1, in the order given (of a folder: sorted by path).

        >>> model.predict("frames/").keypoints.shape  # doctest: +SKIP
        (120, 14, 2)
        """
        options = {
            "device": device,
            "flip_test": flip_test,
            "batch_size": batch_size,
            "decode": decode,
            "scales": scales,
        }
        if isinstance(source, np.ndarray):
            with tempfile.TemporaryDirectory() as folder:
                return self.predict(_save_array(source, Path(folder)), boxes, None, **options)  # type: ignore[arg-type]
        if is_video(source):
            if boxes is not None or detections is not None:
                raise UsageError(f"{source}: boxes and detections are for images; cut the video into frames first.")
            return Poses.concatenate([poses for _, poses in self.watch(source, **options)])  # type: ignore[arg-type]
        sources = [source] if isinstance(source, str | Path) else list(source)
        self.refuse_boxes(boxes, detections)
        people = load_unlabeled(
            sources, skeleton=self.skeleton, detections=detections, sampling=None, whole_images=self.detector_free
        )
        return self.predict_people(people if boxes is None else with_boxes(people, boxes), **options)  # type: ignore[arg-type]

    def predict_people(
        self,
        people: People,
        *,
        device: str = "auto",
        flip_test: bool = False,
        batch_size: int = 64,
        decode: Decoding = "dark",
        scales: Sequence[float] = (1.0,),
    ) -> Poses:
        """The pose of each of `people`, in their order; those of images that cannot be decoded are left out.

        A detector-free network answers with whom it finds in their images instead. A warning names the images left out.
        """
        if len(people.images if self.detector_free else people) == 0:
            return Poses.empty(len(self.skeleton))
        store = self.store(people, choose_device(device), scales=scales)
        if store.unreadable:
            warnings.warn(
                f"{len(store.unreadable)} image(s) could not be decoded and were left out: "
                f"{', '.join(store.unreadable[:5])}",
                stacklevel=2,
            )
        return self.predict_store(store, flip_test=flip_test, batch_size=batch_size, decode=decode, scales=scales)

    def predict_store(
        self,
        store: CropStore,
        *,
        flip_test: bool = False,
        batch_size: int = 64,
        decode: Decoding = "dark",
        scales: Sequence[float] = (1.0,),
    ) -> Poses:
        """The pose of everybody in `store`, one of these `scales`, which is closed."""
        try:
            if isinstance(store, WholeImageStore):
                if decode != "dark":
                    raise UsageError(f"decode {decode}: {self.kind} reads its maps in a way of its own; leave it out.")
                return find_people(
                    self.network.to(store.device),
                    store,
                    skeleton=self.skeleton,
                    flip_test=flip_test,
                    batch_size=batch_size,
                    rescorer=self.rescorer,
                    scales=checked_scales(scales, self.input_size),
                )
            self.refuse_scales(scales)
            return predict_people(
                self.network.to(store.device),
                store,
                size=self.input_size,
                device=store.device,
                batch_size=batch_size,
                flip_test=flip_test,
                decode=decode,
                skeleton=self.skeleton,
            )
        finally:
            store.close()

    @property
    def detector_free(self) -> bool:
        """Whether the network finds everybody in whole images."""
        return self.network.detector_free

    @property
    def kind(self) -> str:
        """The network's name, such as "resnet18"."""
        return str(self.network.config.get("name", "the ensemble"))

    def refuse_boxes(self, boxes: Any = None, detections: Any = None) -> None:
        """Raise a UsageError where people's boxes are given to a network that takes none."""
        if self.detector_free and (boxes is not None or detections is not None):
            raise UsageError(f"boxes or detections are given, and {self.kind} finds people itself; leave them out.")

    def refuse_scales(self, scales: Sequence[float]) -> None:
        """Raise a UsageError where a network that is no detector-free one is to look in several `scales`."""
        if not self.detector_free and tuple(scales) != (1.0,):
            raise UsageError(
                f"--scales {' '.join(f'{scale:g}' for scale in scales)}: is for networks that find people "
                f"themselves, and {self.kind} sees each person in a crop of one size; leave it out."
            )

    def store(
        self, people: People, device: torch.device, strict: bool = False, scales: Sequence[float] = (1.0,)
    ) -> CropStore:
        """What the network looks at: crops of `people`, or the whole images that they are in, also at other `scales`
        than its own size."""
        if self.detector_free:
            largest = max(checked_scales(scales, self.input_size))
            size = round(self.input_size[0] * largest), round(self.input_size[1] * largest)
            return WholeImageStore(one_row_per_image(people), size, device=device, strict=strict)
        self.refuse_scales(scales)
        return CropStore(people, self.input_size, device=device, strict=strict)

    def watch(self, video: str | Path | Clip, **options: Any) -> Iterator[tuple[list[Frame], Poses]]:
        """(frames as number and picture (H, W, 3) BGR, their poses) of a video, some at a time; options as `predict`.

        `image_ids` of the poses are the frames' numbers, from 0; every frame is one person, unless the network is
        detector-free.
        """
        numbered = (video if isinstance(video, Clip) else Clip(video)).frames()
        while chunk := list(islice(numbered, FRAMES_AT_ONCE)):
            with tempfile.TemporaryDirectory() as folder:
                poses = self.predict(save_frames([frame for _, frame in chunk], Path(folder)), **options)
            # Files sort as they were numbered, so image n, counted from 1, is frame n - 1 of this chunk.
            poses.image_ids = np.array([number for number, _ in chunk], np.int64)[poses.image_ids - 1]
            yield chunk, poses


_EXPECTED = "expected a checkpoint of semipose, checkpoints/best-NAME.safetensors of a run's folder."


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The json header and the tensors; safetensors holds no code, so a foreign file is safe to read."""
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint; {_EXPECTED}")
    weights, header = load(path)
    if not isinstance(header, dict):
        raise DataError(f"{path}: its header is a json {type(header).__name__}; {_EXPECTED}")
    return header, weights


def _size(value: Any) -> tuple[int, int]:
    height, width = (int(side) for side in value)
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE):
        raise ValueError(f"input size {height}x{width}, expected sides of 1 to {LARGEST_SIDE} px")
    return height, width


def _build(config: Any, skeleton: Skeleton) -> PoseNetwork:
    if "members" in config:
        if not 0 < len(config["members"]) <= MOST_MEMBERS:
            raise ValueError(f"an ensemble of {len(config['members'])} networks, expected 1 to {MOST_MEMBERS}")
        return Ensemble([_build_one(member, skeleton) for member in config["members"]])
    return _build_one(config, skeleton)


def _build_one(config: Any, skeleton: Skeleton) -> PoseNetwork:
    width, channels = float(config["width"]), int(config["head_channels"])
    if not (0 < width <= LARGEST_WIDTH and 0 < channels <= MOST_CHANNELS):
        raise ValueError(
            f"width {width:g} with {channels} head channels, expected at most {LARGEST_WIDTH:g} and {MOST_CHANNELS}"
        )
    parts = {name: config[name] for name in _PARTS if name in config}
    if any(not isinstance(value, kind) for value, kind in ((parts[name], _PARTS[name]) for name in parts)):
        raise ValueError(f"parts of a network {parts}, expected a backbone's name, and true or false for the others")
    return build_network(str(config["name"]), skeleton, width=width, head_channels=channels, **parts)


def with_boxes(people: People, boxes: Any) -> People:
    """The one image of `people` with its persons at `boxes` (N, 4) x, y, width, height px."""
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
    """`frames` (BGR) as lossless files in `folder`, numbered so that their names sort in order."""
    files = [folder / f"{number:06d}.png" for number in range(len(frames))]
    for file, frame in zip(files, frames, strict=True):
        cv2.imwrite(str(file), frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return files


def _save_array(image: NDArray[np.uint8], folder: Path) -> Path:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UsageError(f"an image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 in RGB.")
    return save_frames([np.ascontiguousarray(image[..., ::-1])], folder)[0]
