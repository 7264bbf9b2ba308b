"""A network and people, or whole images, in; poses in image pixels out, and their score."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from semipose.codecs.choose import scene_codec
from semipose.codecs.heatmap import Decoding, HeatmapCodec
from semipose.codecs.rescoring import Rescorer
from semipose.crops.store import CropStore
from semipose.crops.whole_images import WholeImageStore
from semipose.data.boxes import box_areas, keypoint_hulls
from semipose.data.people import People
from semipose.errors import UsageError
from semipose.fields import Fields, mirrored_mean
from semipose.geometry import Affine
from semipose.metrics.multi_person import score_multi_person
from semipose.metrics.score import Score, score
from semipose.networks import STRIDE_MULTIPLE
from semipose.networks.network import PoseNetwork
from semipose.pose.crowding import CROWDING_LIMITS
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.scene import DetectedPeople
from semipose.views.random_key import RandomKey
from semipose.views.view import Augmentation, Crops

LARGEST_SCALE = 4.0


def predict_people(
    network: PoseNetwork,
    people: People | CropStore,
    *,
    size: tuple[int, int],
    skeleton: Skeleton,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    flip_test: bool = False,
    decode: Decoding = "dark",
    strict: bool = True,
) -> Poses:
    """Predict every person's keypoints (N, K, 2) in image pixels, with peak heights as scores.

    `size` (H, W) of the input. With `strict` an unreadable image is an error; else its people are left out. A
    `CropStore` is used as it is, so that repeated evaluation decodes nothing.
    """
    device = torch.device(device)
    store = people if isinstance(people, CropStore) else CropStore(people, size, "none", device, strict=strict)
    codec = HeatmapCodec.for_size(size, skeleton.flip, network.stride)
    keypoints, scores = [], []
    with torch.no_grad():
        for _, (fields,), to_image in _answers(network, store, batch_size, flip_test, [store.size]):
            found, heights = codec.decode(fields, decode)
            keypoints.append(to_image.points(found).cpu())
            scores.append(heights.cpu())
    return posed(store, torch.cat(keypoints), torch.cat(scores))


def find_people(
    network: PoseNetwork,
    store: WholeImageStore,
    *,
    skeleton: Skeleton,
    batch_size: int = 16,
    flip_test: bool = False,
    scales: Sequence[float] = (1.0,),
    rescorer: Rescorer | None = None,
) -> Poses:
    """Everybody that a detector-free network finds in the images of `store`, the best of each image first.

    `scales` are the sizes in which it looks at them, as shares of its own, which comes first (see `checked_scales`);
    the store's size is that of the largest. `rescorer` has learned to judge DEKR's poses. `box_scores` are the
    people's scores, `boxes` the hulls of their keypoints, enlarged; ids count from 1.
    """
    parts, largest = [Poses.empty(len(skeleton))], max(scales)
    sizes = [(round(store.size[0] * scale / largest), round(store.size[1] * scale / largest)) for scale in scales]
    with torch.no_grad():
        for rows, answers, to_image in _answers(network, store, batch_size, flip_test, sizes):
            found = scene_codec(answers[0], sizes[0], skeleton, rescorer).decode_scales(answers)
            points = (found.keypoints.flatten(1, 2).to(store.device) + 0.5) * largest - 0.5
            at = to_image.points(points).cpu().view(found.keypoints.shape)
            parts.append(_poses(found, at, store.people.poses.image_ids[rows]))
    everybody = Poses.concatenate(parts)
    everybody.ids, everybody.areas = np.arange(1, len(everybody) + 1), box_areas(everybody.boxes)
    return everybody


def checked_scales(scales: Sequence[float], size: tuple[int, int]) -> tuple[float, ...]:
    """`scales` with 1, the network's own `size` (H, W), first; UsageError where the network cannot look at one."""
    told = f"--scales {' '.join(f'{scale:g}' for scale in scales)}: "
    if 1 not in scales or len(set(scales)) < len(scales) or not all(0 < scale <= LARGEST_SCALE for scale in scales):
        raise UsageError(
            f"{told}expected 1, the network's own size, and others above 0, up to {LARGEST_SCALE:g}, each once."
        )
    for scale in scales:
        if any(side * scale % STRIDE_MULTIPLE for side in size):
            raise UsageError(
                f"{told}{scale:g} of {size[0]}x{size[1]} is {size[0] * scale:g}x{size[1] * scale:g}; both "
                f"sides must be multiples of {STRIDE_MULTIPLE}."
            )
    return (1.0, *(scale for scale in scales if scale != 1))


def _poses(found: DetectedPeople, keypoints: torch.Tensor, image_ids: np.ndarray) -> Poses:
    """Who was `found` in the images `image_ids` (B,), at `keypoints` (B, M, K, 2) in their pixels."""
    image, person = np.nonzero(found.person.numpy() > 0)
    poses = Poses.blank(len(image), keypoints.shape[2])
    poses.keypoints, poses.scores = keypoints.numpy()[image, person], found.scores.numpy()[image, person]
    poses.box_scores, poses.image_ids = found.person.numpy()[image, person], image_ids[image]
    poses.visible = np.where(poses.scores > 0, np.uint8(2), np.uint8(0))
    poses.boxes, known = keypoint_hulls(poses.keypoints, poses.visible)
    # A single point has no hull, and a box must not be empty.
    point = poses.keypoints[np.arange(len(poses)), poses.visible.argmax(1)]
    poses.boxes[~known] = np.concatenate([point - 0.5, np.ones_like(point)], 1)[~known]
    return poses


def score_found(found: Poses, store: CropStore, skeleton: Skeleton, resamples: int = 1000) -> Score:
    """Score the poses that were found in `store`: of its people, or of those in its whole images."""
    if not isinstance(store, WholeImageStore):
        return score(found, store.people.poses, skeleton, resamples=resamples)
    assert store.everybody is not None, "unlabeled images cannot be scored"
    return score_whole_images(found, store.everybody, skeleton, resamples)


def score_whole_images(
    found: Poses, everybody: People, skeleton: Skeleton, resamples: int = 1000, easy_below: float | None = None
) -> Score:
    """Score the people found in all images of `everybody`, by CrowdPose's classes where these have its index.

    `easy_below` is where the easy ones end, default 0.2; UsageError where there is no index, or it is not 0 to 0.8.
    """
    given = [extra.get("crowdIndex") for extra in everybody.images.extra]
    index = None if all(one is None for one in given) else np.array(given, float)
    easy, hard = CROWDING_LIMITS[0] if easy_below is None else easy_below, CROWDING_LIMITS[1]
    if not 0 < easy < hard or (easy_below is not None and index is None):
        why = f"expected above 0, below {hard:g}" if index is not None else f"{everybody.source} has no crowdIndex"
        raise UsageError(f"--easy-below {easy:g}: {why}.")
    return score_multi_person(
        found,
        everybody.poses,
        skeleton,
        everybody.images.ids,
        crowd_index=index,
        limits=(easy, hard),
        resamples=resamples,
    )


def _answers(
    network: PoseNetwork, store: CropStore, batch_size: int, flip_test: bool, sizes: Sequence[tuple[int, int]]
) -> Iterator[tuple[np.ndarray, list[Fields], Affine]]:
    """Some rows of `store` at a time: which, the network's fields of their plain views in all `sizes`, and the map
    from views of the store's size to the images."""
    training = network.training
    network.eval()
    try:
        for rows in np.array_split(np.arange(len(store)), max(1, -(-len(store) // batch_size))):
            view = crops_of(store, rows).canonical()
            to_image = (view.affine @ Affine(store.affines[rows].double().numpy())).inverse()
            yield rows, [_answer(network, _shrunk(view.image, size), flip_test) for size in sizes], to_image
    finally:
        network.train(training)


def _shrunk(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Views (B, 3, H, W) in another size, edge to edge, without the patterns that leaving out pixels would make."""
    return image if image.shape[-2:] == size else F.interpolate(image, size, mode="bilinear", antialias=True)


def posed(store: CropStore, keypoints: torch.Tensor, scores: torch.Tensor) -> Poses:
    """The people of `store` with found `keypoints` (N, K, 2) in image pixels and their `scores` (N, K)."""
    truth = store.people.poses
    return Poses(
        keypoints=keypoints.numpy(),
        scores=scores.numpy(),
        visible=np.full(scores.shape, 2, np.uint8),
        boxes=truth.boxes,
        image_ids=truth.image_ids,
        ids=truth.ids,
        areas=truth.areas,
        crowd=truth.crowd,
        box_scores=truth.box_scores,
    )


def crops_of(store: CropStore, rows: np.ndarray) -> Crops:
    """Crops of `rows` for views without augmentation."""
    draw = RandomKey(0, 0, "predict", len(rows), len(rows), device=store.device)
    return Crops(store.get(rows), store.size, store.zoom, Augmentation(), draw)


def _answer(network: nn.Module, image: torch.Tensor, flip_test: bool) -> Fields:
    """Fields of `image`; with the flip test the mean with the mirrored image's, in one doubled batch."""
    if not flip_test:
        answer: Fields = network(image)
        return answer
    straight, mirrored = network(torch.cat([image, image.flip(-1)])).split(len(image))
    return mirrored_mean(straight, mirrored, image.shape[-1])
