"""Outputs of a network: named maps, each with its kind, stride and flip partners."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from semipose.geometry import Affine, constant

ComputeMaps = Callable[[Tensor, Tensor, Tensor], Tensor]

# Smallest distance of predicted probabilities from 0 and 1: losses take their logarithm.
PROBABILITY_MARGIN = 1e-4


@dataclass(frozen=True)
class Field:
    """One map of a network.

    `maps` (B, C, h, w); cell i is at input pixel `stride * i + (stride - 1) / 2`. `flip[c]` is the channel that takes
    channel c's place in a mirrored image. `kind` says whether the maps can be moved into another view. "scalar" maps
    (heatmaps) can be moved by any affine map. "vector" maps would have to turn with it, and an "embedding" has no
    meaning in another image.
    """

    maps: Tensor
    kind: Literal["scalar", "vector", "embedding"]
    stride: int
    flip: tuple[int, ...]

    def moved(self, affine: Affine, size: tuple[int, int] | None = None) -> "Field":
        """Resample into another view; `affine` (B) takes input pixels of this view to input pixels of the other.

        `size` (h, w) is that of the new maps, by default the same. Outside of this view the result is 0.
        """
        if self.kind != "scalar":
            raise ValueError(f"a {self.kind} field cannot be resampled; move target poses instead")
        cells = size or (self.maps.shape[-2], self.maps.shape[-1])
        # Bilinear sampling lowers a peak of sigma 1 by 12 % on average (bicubic: 1 %), and a student that learns
        # from lowered peaks lowers them further.
        maps = affine.at_stride(self.stride).image(self.maps, cells, "bicubic")
        return replace(self, maps=affine.exchanged(maps, self.flip))


class Fields(dict[str, Field]):
    """The fields of one network by name, e.g. `fields["heatmap"].maps`."""

    def moved(self, affine: Affine) -> "Fields":
        """Move every scalar field by `affine`, and leave out the others: they cannot be compared between views."""
        return Fields({name: field.moved(affine) for name, field in self.items() if field.kind == "scalar"})

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Fields":
        """Apply `change` to all maps."""
        return Fields({name: replace(field, maps=change(field.maps)) for name, field in self.items()})

    def detach(self) -> "Fields":
        """Detach all maps from their graph."""
        return self.changed(Tensor.detach)

    def split(self, first: int) -> "tuple[Fields, Fields]":
        """Split the batch into its first `first` samples and the others."""
        return self.changed(lambda maps: maps[:first]), self.changed(lambda maps: maps[first:])


def heatmap_and_center(maps: Tensor, flip: tuple[int, ...]) -> Fields:
    """Make fields "heatmap" and "center" of stride 4 from keypoint maps and, last, a map of people's centers."""
    return Fields(
        {
            "heatmap": Field(maps[:, :-1], "scalar", 4, flip),
            "center": Field(maps[:, -1:], "scalar", 4, (0,)),
        }
    )


class InstanceFields(Fields):
    """Fields of a network that also computes the maps of one person at a time (CID), at cells chosen later.

    `features` (B, C, h, w) describe the person centered at a cell; `shared` (B, D, h, w) are the input of all people's
    maps. Both have the fields' stride. `compute_maps(parameters (n, C), shared (B, D, h, w), cells (n, 2))` returns the
    maps (n, K, h, w) of n / B people of each image, one image after the other. All maps are probabilities, at least
    PROBABILITY_MARGIN away from 0 and 1. `moved` returns plain fields: people are moved as poses.
    """

    def __init__(self, fields: Fields, features: Tensor, shared: Tensor, compute_maps: ComputeMaps) -> None:
        super().__init__(fields)
        self.features, self.shared, self._compute_maps = features, shared, compute_maps

    def parameters(self, index: Tensor) -> Tensor:
        """Features (B * P, C) of P people of each image, at the cells `index` (B, P) int64, counted row by row."""
        count, _, height, width = self.features.shape
        start = height * width * torch.arange(count, device=index.device)[:, None]
        return self._features_at((index + start).flatten())

    def person_maps(self, parameters: Tensor, cells: Tensor, rows: Tensor | None = None) -> Tensor:
        """Maps (n, K, h, w) in 0..1 of people with these `parameters` (n, C), centered at `cells` (n, 2), x and y.

        Each image has the same number of people, one image after the other; or `rows` (n,) is each person's image.
        """
        shared = self.shared if rows is None else self.shared.index_select(0, rows)
        # Maps of detached fields have no graph either.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.shared.requires_grad):
            return self._compute_maps(parameters, shared, cells)

    def instances(self, rows: Tensor, cells: Tensor) -> Tensor:
        """Maps (n, K, h, w) in 0..1 of the people centered at `cells` (n, 2), x and y, of the images `rows` (n,)."""
        x, y = cells.unbind(1)
        index = (rows * self.features.shape[2] + y) * self.features.shape[3] + x
        return self.person_maps(self._features_at(index), cells, rows)

    def _features_at(self, index: Tensor) -> Tensor:
        # Row by row of channels_last maps: the gradient has that layout, too. Adding gradients of two layouts is slow.
        return self.features.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, index)

    def changed(self, change: Callable[[Tensor], Tensor]) -> "InstanceFields":
        """Apply `change` to all maps, and to the inputs of people's maps."""
        return InstanceFields(super().changed(change), change(self.features), change(self.shared), self._compute_maps)


def mirrored_mean(fields: Fields, flipped: Fields, width: int) -> Fields:
    """Merge `fields` with those of the mirrored image, moved back (flip test); `width` of the input in pixels.

    Scalar maps, vectors and maps of one person are averaged. Embeddings can only be compared within one image. They are
    stacked, the flipped ones' channels last.
    """
    maps = next(iter(fields.values())).maps
    mirror = Affine.mirror(width, len(maps), maps.device)
    both = Fields({name: _with_mirrored(field, flipped[name], mirror) for name, field in fields.items()})
    if isinstance(fields, InstanceFields) and isinstance(flipped, InstanceFields):
        return _MirroredInstances(both, fields, flipped)
    return both


def _with_mirrored(field: Field, flipped: Field, mirror: Affine) -> Field:
    """Merge two fields; stacked embeddings keep their flip partners."""
    cells = (field.maps.shape[-2], field.maps.shape[-1])
    back = mirror.at_stride(field.stride).image(flipped.maps, cells, "bicubic")
    back = mirror.exchanged(back, field.flip).to(field.maps.dtype)
    if field.kind == "embedding":
        flip = (*field.flip, *(len(field.flip) + partner for partner in field.flip))
        return replace(field, maps=torch.cat([field.maps, back], 1), flip=flip)
    if field.kind == "vector":
        # Channels dx and dy alternate.
        back = back * constant((((-1.0,),), ((1.0,),)), back.device, back.dtype).repeat(back.shape[1] // 2, 1, 1)
    return replace(field, maps=torch.lerp(field.maps, back, 0.5))


class _MirroredInstances(InstanceFields):
    """Fields whose maps of people are the mean over `fields` and `flipped`."""

    def __init__(self, both: Fields, fields: InstanceFields, flipped: InstanceFields) -> None:
        super().__init__(both, fields.features, fields.shared, fields._compute_maps)
        self._straight, self._flipped = fields, flipped

    def instances(self, rows: Tensor, cells: Tensor) -> Tensor:
        maps, flip = self._straight.instances(rows, cells), constant(self["heatmap"].flip, cells.device, torch.int64)
        mirrored = torch.stack([maps.shape[-1] - 1 - cells[:, 0], cells[:, 1]], 1)
        back = self._flipped.instances(rows, mirrored).flip(-1).index_select(1, flip)
        return torch.lerp(maps, back.to(maps.dtype), 0.5)
