"""Choose the codec of a detector-free network by the fields that it returns."""

from semipose.codecs.associative import AssociativeEmbedding
from semipose.codecs.center_offset import CenterOffset
from semipose.codecs.instance import Instance
from semipose.codecs.rescoring import Rescorer
from semipose.codecs.scene_codec import SceneCodec
from semipose.fields import Fields
from semipose.pose.skeleton import Skeleton


def tells_people_apart(fields: Fields) -> bool:
    """Whether `fields` are those of a detector-free network."""
    return "tags" in fields or "center" in fields


def scene_codec(
    fields: Fields, size: tuple[int, int], skeleton: Skeleton, rescorer: Rescorer | None = None
) -> SceneCodec:
    """Choose the codec of the network that returned `fields` for images of `size` (H, W) in pixels.

    `CenterOffset` takes the `rescorer`. Raises ValueError where no codec fits the fields.
    """
    if "tags" in fields:
        return AssociativeEmbedding(size, skeleton, fine="fine_heatmap" in fields)
    if "center" not in fields:
        raise ValueError(f"fields {sorted(fields)} tell no people apart; expected tags, or centers and offsets")
    return CenterOffset(size, skeleton, rescorer=rescorer) if "offsets" in fields else Instance(size, skeleton)
