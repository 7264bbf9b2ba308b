"""Small scenes for tests, and what a perfect network would perfect_output to them."""

from dataclasses import replace

import torch
from torch import Tensor

from semipose.codecs.associative import AssociativeEmbedding
from semipose.codecs.center_offset import CenterOffset
from semipose.codecs.instance import Instance
from semipose.codecs.scene_codec import SceneCodec
from semipose.fields import PROBABILITY_MARGIN, Field, Fields, InstanceFields
from semipose.geometry import Affine
from semipose.pose.skeleton import Skeleton
from semipose.scene import DetectedPeople, Scene

NAMES = ("nose", "left_hand", "right_hand", "left_foot", "right_foot")
SKELETON = Skeleton("figure", NAMES, ((0, 1), (0, 2), (0, 3), (0, 4)), (0, 2, 1, 4, 3), (0.08,) * 5, "made up")
SIZE = (128, 128)
# Where people stand, far enough apart not to be taken for one another, and where their keypoints are.
PLACES = torch.tensor([[32.0, 32.0], [92.0, 36.0], [36.0, 94.0], [90.0, 90.0]])
POSE = torch.tensor([[0.0, -19.0], [13.0, -3.0], [-14.0, 2.0], [8.0, 21.0], [-9.0, 18.0]])
CODECS = (AssociativeEmbedding(SIZE, SKELETON), CenterOffset(SIZE, SKELETON), Instance(SIZE, SKELETON))


def scene(counts: tuple[int, ...] = (2, 4, 0), room: int = 4, seed: int = 0) -> Scene:
    """One image for each of `counts`, with so many people, and all their keypoints on it."""
    random = torch.Generator().manual_seed(seed)
    keypoints = (PLACES[:room, None] + POSE).expand(len(counts), -1, -1, -1).clone()
    keypoints += 6 * torch.rand(keypoints.shape, generator=random) - 3
    weight = (torch.arange(room) < torch.tensor(counts)[:, None]).float()
    keypoints *= weight[..., None, None]
    visible = weight[..., None].expand(-1, -1, len(SKELETON)).clone()
    box_size = torch.tensor([30.0, 42.0]).expand(len(counts), room, 2) * weight[..., None]
    return Scene(keypoints, visible, weight, box_size, torch.ones(len(counts), 1, SIZE[0] // 4, SIZE[1] // 4))


def perfect_output(codec: SceneCodec, of: Scene) -> Fields:
    """Fields that say exactly what is to be learned."""
    fields, _ = codec.targets(of)
    if isinstance(codec, AssociativeEmbedding):
        fields["tags"] = Field(tags_of(codec, of), "embedding", 4, SKELETON.flip)
    elif isinstance(codec, CenterOffset):
        offsets, _ = codec.offset_targets(of)
        flip = tuple(2 * partner + axis for partner in SKELETON.flip for axis in (0, 1))
        fields["offsets"] = Field(offsets.flatten(1, 2), "vector", 4, flip)
    else:
        return instance_fields(codec, fields, of)
    return fields


def tags_of(codec: SceneCodec, of: Scene) -> Tensor:
    """(B, K, h, w): 3 times the person's number, around each keypoint."""
    tags = torch.zeros(len(of), len(SKELETON), *codec.cells)
    cells = (codec.in_cells(of.keypoints) + 0.5).long()
    for image, person, k in (of.visible > 0).nonzero().tolist():
        x, y = cells[image, person, k].tolist()
        tags[image, k, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = 3.0 * person
    return tags


def instance_fields(codec: SceneCodec, fields: Fields, of: Scene) -> InstanceFields:
    """Fields that draw the person nearest to the cell; the features are all people's closeness to it."""
    assert isinstance(codec, Instance)
    centers, (height, width) = codec.in_cells(of.centers), codec.cells
    cell = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1)
    away = (cell - centers[:, :, None, None]).norm(dim=-1) + 1e6 * ~of.present[..., None, None]
    # Each person as an image of one person.
    people = (one.flatten(0, 1)[:, None] for one in (of.keypoints, of.visible, of.weight, of.box_size))
    alone = Scene(*people, torch.ones(len(of) * of.people, 1, height, width))
    each = codec.targets(alone)[0]["heatmap"].maps.unflatten(0, (len(of), of.people)).flatten(1, 2)

    def draw(parameters: Tensor, shared: Tensor, _: Tensor) -> Tensor:
        maps = shared.unflatten(1, (of.people, -1)).repeat_interleave(len(parameters) // max(1, len(shared)), 0)
        return maps[torch.arange(len(maps)), parameters.argmax(1)]

    # As the network's own, probabilities keep away from 0 and 1.
    sure = Fields(
        {
            name: replace(field, maps=field.maps.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN))
            for name, field in fields.items()
        }
    )
    return InstanceFields(sure, (1 - 0.01 * away), each.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN), draw)


def apart(codec: SceneCodec, fields: Fields, people: Scene) -> dict[str, Tensor]:
    """The losses of what tells people apart."""
    losses = codec.losses(fields, people)
    return {name: loss for name, loss in losses.items() if name not in ("heatmap", "fine_heatmap")}


def mirrored(of: Scene) -> Scene:
    """The same people in the mirrored image."""
    return of.moved(Affine.mirror(SIZE[1], len(of)), SKELETON.flip)


def twice(of: Scene) -> Scene:
    """The same people in an image of twice the size."""
    valid = of.valid.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return Scene(2 * of.keypoints + 0.5, of.visible, of.weight, 2 * of.box_size, valid)


def worst(found: DetectedPeople | Scene, truth: Scene) -> float:
    """The largest distance in px of a visible keypoint from the same keypoint of the nearest person found."""
    person = found.person if isinstance(found, DetectedPeople) else found.weight
    apart = (found.keypoints[:, None] - truth.keypoints[:, :, None]).norm(dim=-1)
    apart = apart.masked_fill(~(truth.visible > 0)[:, :, None], 0).amax(-1)
    apart = apart.masked_fill(~(person > 0)[:, None], 1e6).amin(2)
    return float(apart[truth.present].max())
