"""Pseudo people: select confident people among those that a teacher detects in whole images, on the device."""

from dataclasses import replace

import torch
from torch import Tensor

from semipose.codecs.associative import AssociativeEmbedding
from semipose.codecs.scene_codec import SceneCodec
from semipose.fields import Fields
from semipose.scene import REGION_STRIDE, Labels, Scene
from semipose.views.occlude import cover

# Keypoints that a pseudo person must have, and the enlargement of an uncertain person's box.
MIN_KEYPOINTS, BOX_ENLARGEMENT = 3, 1.25


def people_per_image(labels: Labels) -> float:
    """Mean number of labeled people per image with enough keypoints for a pseudo person."""
    return float((labels.visible.sum(-1) >= MIN_KEYPOINTS).sum() / len(labels))


def select_pseudo_people(detected: Scene, reliable: Tensor, threshold: Tensor, doubt: float = 0.5) -> Scene:
    """Select pseudo people among those `detected` by a teacher; the others get weight 0.

    A pseudo person's score reaches `threshold`, MIN_KEYPOINTS keypoints are confident, and the person is `reliable`
    (B, M) bool. Other people whose score reaches the share `doubt` of `threshold` are uncertain: their boxes become
    unknown regions.
    """
    confident = (detected.shown.sum(-1) >= MIN_KEYPOINTS) & (detected.weight >= threshold) & reliable
    uncertain = ~confident & (detected.weight >= doubt * threshold)
    assert detected.extent is not None, "people must be detected in this view"
    low, high = detected.extent
    margin = detected.box_size * ((BOX_ENLARGEMENT - 1) / 2) + REGION_STRIDE
    # A box that begins at infinity covers nothing, like the box of a person without keypoints.
    low = (low - margin).masked_fill(~uncertain[..., None], torch.inf)
    covered = cover(low, high + margin, (detected.valid.shape[-2], detected.valid.shape[-1]), REGION_STRIDE)
    return replace(
        detected,
        weight=detected.weight * confident,
        visible=detected.visible * confident[..., None],
        valid=detected.valid.masked_fill(covered[:, None], 0),
    )


def signals(
    codec: SceneCodec, teacher_output: Fields, detected: Scene, pseudo: Scene, threshold: Tensor
) -> dict[str, Tensor]:
    """Signals to log: detected and pseudo people per image, their threshold, keypoints and distance of tags."""
    values = {
        "found": detected.present.float().sum(1).mean(),
        "pseudo_people": pseudo.present.float().sum(1).mean(),
        "threshold": threshold,
        "pseudo_keypoints": pseudo.shown.float().sum((1, 2)).mean(),
    }
    if isinstance(codec, AssociativeEmbedding):
        margin = codec.margins(teacher_output, pseudo)[1]
        several = margin.isfinite()
        values["tag_margin"] = torch.where(several, margin, 0).sum() / several.sum().clamp_min(1)
    return values
