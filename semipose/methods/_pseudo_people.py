"""Pseudo people: whom a teacher finds in a whole image and who of them is believed, on the device."""

from dataclasses import replace

import torch
from torch import Tensor

from semipose.codecs.associative import AssociativeEmbedding
from semipose.codecs.scene_codec import SceneCodec
from semipose.fields import Fields
from semipose.scene import REGION_STRIDE, Labels, Scene
from semipose.views.occlude import cover

# Somebody with fewer keypoints is not learned from; the box of a doubtful person is made this much larger.
MIN_KEYPOINTS, BOX_ENLARGEMENT = 3, 1.25


def people_per_image(labels: Labels) -> float:
    """How many people an image has on average who have enough keypoints to be learned from."""
    return float((labels.visible.sum(-1) >= MIN_KEYPOINTS).sum() / len(labels))


def select_pseudo_people(found: Scene, reliable: Tensor, least: Tensor, doubt: float = 0.5) -> Scene:
    """The pseudo people among those `found` in a teacher's answer; the others have weight 0.

    Their scores reach `least`, they have FEWEST keypoints, and the answer describes them well: `reliable` (B, M) bool.
    Where others reach the share `doubt` of `least` it is unknown who is there.
    """
    sure = (found.shown.sum(-1) >= MIN_KEYPOINTS) & (found.weight >= least) & reliable
    settled = sure | (found.weight < doubt * least)
    low, high = found.extent
    room = found.sides * ((BOX_ENLARGEMENT - 1) / 2) + REGION_STRIDE
    # A rectangle that begins at infinity covers nothing, as that of somebody without keypoints.
    low = (low - room).masked_fill(settled[..., None], torch.inf)
    covered = cover(low, high + room, (found.known.shape[-2], found.known.shape[-1]), REGION_STRIDE)
    return replace(
        found,
        weight=found.weight * sure,
        visible=found.visible * sure[..., None],
        known=found.known.masked_fill(covered[:, None], 0),
    )


def signals(codec: SceneCodec, answer: Fields, found: Scene, pseudo: Scene, least: Tensor) -> dict[str, Tensor]:
    """People found and believed in an image, from which score on, with how many keypoints, how far apart in tags."""
    told = {
        "found": found.present.float().sum(1).mean(),
        "pseudo_people": pseudo.present.float().sum(1).mean(),
        "threshold": least,
        "pseudo_keypoints": pseudo.shown.float().sum((1, 2)).mean(),
    }
    if isinstance(codec, AssociativeEmbedding):
        margin = codec.margins(answer, pseudo)[1]
        several = margin.isfinite()
        told["tag_margin"] = torch.where(several, margin, 0).sum() / several.sum().clamp_min(1)
    return told
