"""Pseudo people: select confident people among those that a teacher detects in whole images, on the device."""

from dataclasses import replace

import torch
from torch import Tensor

from semipose.codecs.associative import AssociativeEmbedding
from semipose.codecs.scene_codec import SceneCodec
from semipose.fields import Fields
from semipose.scene import REGION_STRIDE, Labels, Scene
from semipose.views.occlude import cover

# Keypoints that a person must have to be learned from, and the enlargement of an uncertain person's box.
MIN_KEYPOINTS, BOX_ENLARGEMENT = 3, 1.25


def learnable(labels: Labels) -> float:
    """Mean number of people per image with enough keypoints to be learned from."""
    return float((labels.visible.sum(-1) >= MIN_KEYPOINTS).sum() / len(labels))


def select_pseudo_people(found: Scene, reliable: Tensor, least: Tensor, doubt: float = 0.5) -> Scene:
    """Select the pseudo people among those `found` by a teacher; the others get weight 0.

    Their scores reach `least`, they have FEWEST confident keypoints, and the teacher's fields describe them well:
    `reliable` (B, M) bool. The boxes of other people whose score reaches the share `doubt` of `least` become unknown.
    """
    confident = (found.shown.sum(-1) >= MIN_KEYPOINTS) & (found.weight >= least) & reliable
    uncertain = ~confident & (found.weight >= doubt * least)
    assert found.extent is not None, "people must be detected in this view"
    low, high = found.extent
    margin = found.box_size * ((BOX_ENLARGEMENT - 1) / 2) + REGION_STRIDE
    # A box that begins at infinity covers nothing, as that of a person without keypoints.
    low = (low - margin).masked_fill(~uncertain[..., None], torch.inf)
    covered = cover(low, high + margin, (found.valid.shape[-2], found.valid.shape[-1]), REGION_STRIDE)
    return replace(
        found,
        weight=found.weight * confident,
        visible=found.visible * confident[..., None],
        valid=found.valid.masked_fill(covered[:, None], 0),
    )


def signals(codec: SceneCodec, answer: Fields, found: Scene, pseudo: Scene, least: Tensor) -> dict[str, Tensor]:
    """Signals to log: detected and pseudo people per image, their threshold, keypoints and distance in tags."""
    values = {
        "found": found.present.float().sum(1).mean(),
        "pseudo_people": pseudo.present.float().sum(1).mean(),
        "threshold": least,
        "pseudo_keypoints": pseudo.shown.float().sum((1, 2)).mean(),
    }
    if isinstance(codec, AssociativeEmbedding):
        margin = codec.margins(answer, pseudo)[1]
        several = margin.isfinite()
        values["tag_margin"] = torch.where(several, margin, 0).sum() / several.sum().clamp_min(1)
    return values
