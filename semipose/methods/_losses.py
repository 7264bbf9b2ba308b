"""Losses that methods share: against labels, and against a teacher's output moved to the student's view."""

from dataclasses import replace

from torch import Tensor

from semipose.codecs.choose import scene_codec, tells_people_apart
from semipose.codecs.heatmap import HeatmapCodec
from semipose.fields import Field, Fields
from semipose.geometry import Affine, constant
from semipose.losses.heatmap import field_loss, total
from semipose.pose.skeleton import Skeleton
from semipose.scene import Scene
from semipose.views.random_key import RandomKey
from semipose.views.view import Crops, SceneCrops, View


class PoseLosses:
    """Losses for people with one `skeleton`, in crops or, with detector-free networks, in whole images."""

    skeleton: Skeleton

    def codec(self, view: View, fields: Fields) -> HeatmapCodec:
        """Choose the codec of a network's `fields` for input of the view's size."""
        return HeatmapCodec.for_size(view.size, self.skeleton.flip, fields["heatmap"].stride)

    def labeled_loss(self, predicted: Fields, crops: Crops, view: View) -> Tensor:
        """Supervised loss of the fields `predicted` on a `view` of labeled crops; keypoints without a label weigh 0.

        On whole images it is the sum of all published losses of the network.
        """
        if isinstance(crops, SceneCrops):
            return self.people_loss(predicted, crops.scene(view, self.skeleton.flip), view, crops.random)
        return field_loss(predicted, *self.labeled_target(predicted, crops, view))

    def people_loss(self, predicted: Fields, people: Scene, view: View, random: RandomKey) -> Tensor:
        """Supervised loss of the fields `predicted` on a `view` of whole images with these `people`."""
        codec = scene_codec(predicted, view.size, self.skeleton)
        return total(codec.losses(predicted, people, uniform_numbers(people, random)))

    def labeled_target(self, predicted: Fields, crops: Crops, view: View) -> tuple[Fields, Tensor]:
        """Target of the fields `predicted`, and the weight of each map."""
        if crops.visible is None:
            raise ValueError("the labeled loss needs labeled crops")
        flip = self.skeleton.flip
        # A mirrored view exchanges partners, and their labels' visibility with them.
        visible = view.affine.exchanged(crops.visible, flip)
        return self.codec(view, predicted).encode(crops.labels(view, flip), visible)

    def consistency_loss(
        self,
        predicted: Fields,
        teacher_output: Fields,
        weak: View,
        strong: View,
        confidence_mask: Tensor | None = None,
        outside: str = "unknown",
    ) -> Tensor:
        """Loss of the student's fields on `strong` against `teacher_output` on `weak`, moved to `strong`.

        `confidence_mask` (B, K) in 0..1 weighs whole maps. The area outside of the weak view is unknown and weighs 0.
        In the papers it is background (`outside="background"`: target 0 with weight 1). On whole images all scalar
        maps are compared, on the scale of their supervised losses. The mask does not apply to people's centers.
        """
        if not tells_people_apart(teacher_output):
            return field_loss(predicted, *self.moved_target(teacher_output, weak, strong, confidence_mask, outside))
        move = weak.to(strong)
        targets = teacher_output.moved(move).detach()
        weights = Fields()
        for name, field in targets.items():
            mask = None if name == "center" else confidence_mask
            weights[name] = replace(field, maps=_moved_weight(field, move, mask, outside))
        return scene_codec(teacher_output, strong.size, self.skeleton).consistency(predicted, targets, weights)

    def moved_target(
        self,
        teacher_output: Fields,
        weak: View,
        strong: View,
        confidence_mask: Tensor | None = None,
        outside: str = "unknown",
    ) -> tuple[Fields, Tensor]:
        """Move `teacher_output` from `weak` to `strong`; return it with each cell's weight (see `consistency_loss`).

        For networks whose scalar maps have one stride.
        """
        move = weak.to(strong)
        target = teacher_output.moved(move).detach()
        return target, _moved_weight(next(iter(target.values())), move, confidence_mask, outside)


def uniform_numbers(people: Scene, random: RandomKey) -> Tensor:
    """Random numbers (B, M, 3) in 0..1 for `people`; see `SceneCodec.instance_losses`."""
    return random.to_device(random.uniform("person", people.people, 3))


def _moved_weight(target: Field, move: Affine, confidence_mask: Tensor | None, outside: str) -> Tensor:
    """Weight of each cell of a `target` that was moved by `move`, in 0..1 or bool."""
    cells = (target.maps.shape[-2], target.maps.shape[-1])
    if outside == "unknown":
        weight = move.at_stride(target.stride).inside(cells, cells) > 0.99
    else:
        weight = constant((1.0,), target.maps.device)
    if confidence_mask is not None:
        weight = weight * move.exchanged(confidence_mask, target.flip)[..., None, None]
    return weight
