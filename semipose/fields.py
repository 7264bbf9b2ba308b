"""What a network returns: named maps, each with its kind, stride and flip partners."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from semipose.geometry import Affine, constant, multiples

Draw = Callable[[Tensor, Tensor, Tensor], Tensor]

# What is a probability keeps this far from 0 and 1: losses take its logarithm.
EDGE = 1e-4


@dataclass(frozen=True)
class Field:
    """One map of a network.

    `maps` (B, C, h, w); cell i of it lies at input pixel `stride * i + (stride - 1) / 2`. `kind` says what may be
    done with it: a "scalar" map (heatmap) moves under any affine map; a "vector" map would have to turn with it and
    an "embedding" has no meaning between images, so neither is moved here. `flip[c]` is the channel that takes
    channel c's place in a mirrored image.
    """

    maps: Tensor
    kind: Literal["scalar", "vector", "embedding"]
    stride: int
    flip: tuple[int, ...]

    def moved(self, affine: Affine, size: tuple[int, int] | None = None) -> "Field":
        """Resample into another view; `affine` (B) takes input pixels of this view to input pixels of the other.

        `size` (h, w) of the new maps, default the same. Outside of this view the result is 0.
        """
        if self.kind != "scalar":
            raise ValueError(f"a {self.kind} field cannot be resampled; move target poses instead")
        cells = size or (self.maps.shape[-2], self.maps.shape[-1])
        # Bilinear sampling lowers a peak of sigma 1 by 12 % on average (bicubic: 1 %), and a student that learns
        # from lowered peaks lowers them further.
        maps = affine.at_stride(self.stride).image(self.maps, cells, "bicubic")
        return replace(self, maps=affine.exchanged(maps, self.flip))

    def detach(self) -> "Field":
        """The same field without its graph."""
        return replace(self, maps=self.maps.detach())


class Fields(dict[str, Field]):
    """The fields of one network by name, e.g. `fields["heatmap"].maps`.

    Networks that give keypoint and center maps as one tensor have them as parts of it; see `paired`.
    """

    def __init__(self, fields: Mapping[str, Field] | None = None, whole: Tensor | None = None) -> None:
        super().__init__(fields or {})
        self._whole = whole

    def __setitem__(self, name: str, field: Field) -> None:
        super().__setitem__(name, field)
        if name in ("heatmap", "center"):
            self._whole = None

    @staticmethod
    def paired(maps: Tensor, flip: tuple[int, ...], others: Mapping[str, Field] | None = None) -> "Fields":
        """Keypoint and, last, center maps (B, K + 1, h, w) of stride 4 as "heatmap" and "center", and `others`."""
        heatmap, center = maps.split([len(flip), 1], 1)
        pair = {"heatmap": Field(heatmap, "scalar", 4, flip), "center": Field(center, "scalar", 4, (0,))}
        return Fields(pair | dict(others or {}), maps)

    @property
    def joined(self) -> Tensor:
        """Keypoint and center maps (B, K + 1, h, w) one after the other, or keypoint maps alone: no copy where the
        network gave them so."""
        if self._whole is not None:
            return self._whole
        maps = self["heatmap"].maps
        return torch.cat([maps, self["center"].maps], 1) if "center" in self else maps

    def merged(self) -> "Fields":
        """The same, with keypoint and center maps as one field, where there are both: what moves them does so once."""
        if "center" not in self:
            return self
        flip = self["heatmap"].flip
        return Fields({"heatmap": Field(self.joined, "scalar", 4, (*flip, len(flip)))})

    def moved(self, affine: Affine) -> "Fields":
        """Every scalar field moved by `affine`; the others are left out, as nothing may be compared with them."""
        return Fields({name: field.moved(affine) for name, field in self.items() if field.kind == "scalar"})

    def detach(self) -> "Fields":
        """The same fields without their graph."""
        return Fields({name: field.detach() for name, field in self.items()})

    def split(self, first: int) -> "tuple[Fields, Fields]":
        """The fields of the first `first` samples of the batch, and those of the others."""
        parts = (slice(0, first), slice(first, None))
        one, other = (
            Fields({name: replace(field, maps=field.maps[part]) for name, field in self.items()}) for part in parts
        )
        return one, other


class InstanceFields(Fields):
    """Fields of a network that also draws one person at a time (CID), at places chosen after it has answered.

    `features` (B, C, h, w) describe what is centered at a cell, `shared` (B, D, h, w) is what everybody's maps are
    made of, both of the fields' stride. `draw(parameters (n, C), shared (B, D, h, w), cells (n, 2))`, of n / B people
    of each image, one image after the other, answers with their maps (n, K, h, w). All maps are probabilities,
    at least EDGE away from 0 and 1. `moved` gives plain fields: people are moved as poses.
    """

    def __init__(self, fields: Fields, features: Tensor, shared: Tensor, draw: Draw) -> None:
        super().__init__(fields, fields._whole)
        self.features, self.shared, self._draw = features, shared, draw

    def parameters(self, spots: Tensor) -> Tensor:
        """The features (B * P, C) of P people of each image, at the cells `spots` (B, P) int64, counted row by row."""
        count, _, height, width = self.features.shape
        return self._features_at((spots + multiples(count, height * width, spots.device)).flatten())

    def drawn(self, parameters: Tensor, cells: Tensor) -> Tensor:
        """Maps (B * P, K, h, w) in 0..1 of P people of each image, of these `parameters` (B * P, C) and centered at
        `cells` (B * P, 2), x and y."""
        return self._drawn(parameters, self.shared, cells)

    def instances(self, rows: Tensor, cells: Tensor) -> Tensor:
        """Maps (n, K, h, w) in 0..1 of the people centered at `cells` (n, 2), x and y, of the images `rows` (n,)."""
        x, y = cells.unbind(1)
        parameters = self._features_at((rows * self.features.shape[2] + y) * self.features.shape[3] + x)
        return self._drawn(parameters, self.shared.index_select(0, rows), cells)

    def _features_at(self, places: Tensor) -> Tensor:
        # Row by row of channels_last maps, so that their gradient is of that layout, too: adding up two is slow.
        return self.features.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, places)

    def _drawn(self, parameters: Tensor, shared: Tensor, cells: Tensor) -> Tensor:
        # Detached fields leave no graph in what is drawn of them either.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.shared.requires_grad):
            return self._draw(parameters, shared, cells)

    def detach(self) -> "InstanceFields":
        """The same fields without their graph; nor has anything drawn of them one."""
        return InstanceFields(super().detach(), self.features.detach(), self.shared.detach(), self._draw)

    def split(self, first: int) -> "tuple[InstanceFields, InstanceFields]":
        """The fields of the first `first` samples of the batch, and those of the others."""
        one, other = super().split(first)
        return (
            InstanceFields(one, self.features[:first], self.shared[:first], self._draw),
            InstanceFields(other, self.features[first:], self.shared[first:], self._draw),
        )


def stacked(answers: Sequence[Fields]) -> Fields:
    """A network's `answers` to several batches of images of one size, as one to all of them."""
    first = answers[0]
    apart = list(first)
    wholes = [each._whole for each in answers if each._whole is not None]
    if len(wholes) == len(answers):
        apart = [name for name in first if name not in ("heatmap", "center")]
    fields = Fields(
        {name: replace(first[name], maps=torch.cat([each[name].maps for each in answers])) for name in apart}
    )
    if len(apart) < len(first):
        fields = Fields.paired(torch.cat(wholes), first["heatmap"].flip, fields)
    drawing = [each for each in answers if isinstance(each, InstanceFields)]
    if not drawing:
        return fields
    features, shared = (torch.cat([getattr(each, name) for each in drawing]) for name in ("features", "shared"))
    return InstanceFields(fields, features, shared, drawing[0]._draw)


def mirrored_mean(fields: Fields, flipped: Fields, width: int) -> Fields:
    """`fields` and the answer to the mirrored image, moved back, as one: the flip test. `width` of the input in px.

    Scalar maps and vectors are averaged. The embeddings are stacked, the flipped ones' channels after the others, as
    each means something only beside others of the same image. Maps of one person are the mean of both.
    """
    maps = next(iter(fields.values())).maps
    mirror = Affine.mirror(width, len(maps), maps.device)
    both = Fields({name: _with_mirrored(field, flipped[name], mirror) for name, field in fields.items()})
    if isinstance(fields, InstanceFields) and isinstance(flipped, InstanceFields):
        return _MirroredInstances(both, fields, flipped)
    return both


def _with_mirrored(field: Field, flipped: Field, mirror: Affine) -> Field:
    """Two answers in one; where embeddings are stacked, each keeps its partners."""
    cells = (field.maps.shape[-2], field.maps.shape[-1])
    back = mirror.at_stride(field.stride).image(flipped.maps, cells, "bicubic")
    back = mirror.exchanged(back, field.flip).to(field.maps.dtype)
    if field.kind == "embedding":
        flip = (*field.flip, *(len(field.flip) + partner for partner in field.flip))
        return replace(field, maps=torch.cat([field.maps, back], 1), flip=flip)
    if field.kind == "vector":
        # Channels dx and dy in turn.
        back = back * constant((((-1.0,),), ((1.0,),)), back.device, back.dtype).repeat(back.shape[1] // 2, 1, 1)
    return replace(field, maps=torch.lerp(field.maps, back, 0.5))


class _MirroredInstances(InstanceFields):
    """`fields` whose maps of people are the mean with those that `flipped` draws of the mirrored people."""

    def __init__(self, both: Fields, fields: InstanceFields, flipped: InstanceFields) -> None:
        super().__init__(both, fields.features, fields.shared, fields._draw)
        self._straight, self._flipped = fields, flipped

    def instances(self, rows: Tensor, cells: Tensor) -> Tensor:
        maps, flip = self._straight.instances(rows, cells), constant(self["heatmap"].flip, cells.device, torch.int64)
        mirrored = torch.stack([maps.shape[-1] - 1 - cells[:, 0], cells[:, 1]], 1)
        back = self._flipped.instances(rows, mirrored).flip(-1).index_select(1, flip)
        return torch.lerp(maps, back.to(maps.dtype), 0.5)
