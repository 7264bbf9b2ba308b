"""Random appearance of people: colors, patterns, clothes, hair."""

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

from semipose.synthetic.arrays import Bytes
from semipose.synthetic.canvas import TILE_SIDE, Color, Material, shade

_SKINS = ((255, 224, 196), (241, 194, 155), (224, 172, 125), (190, 135, 92), (141, 85, 52), (92, 56, 38))
_HAIRS = (
    (28, 24, 22),
    (62, 40, 26),
    (110, 72, 40),
    (214, 176, 106),
    (150, 60, 30),
    (170, 170, 170),
    (90, 60, 140),
)


@dataclass(frozen=True)
class Appearance:
    """Clothes and hair. `sleeve` and `leg` count covered segments: 1 to elbow or knee, 2 to wrist or ankle."""

    skin: Material
    hair: Material
    shirt: Material
    trousers: Material
    shoes: Material
    extra: Material
    sleeve: float
    leg: float
    loose: float  # distance of clothes from the skin, body heights
    skirt: float  # length in thighs, 0 for none
    hair_style: str  # "bald", "short", "long", "bun" or "cap"
    backpack: bool
    front: str  # of the shirt: "plain", "logo", "buttons" or "tie"
    glasses: bool
    outline: Color | None
    eye: float  # radius of an eye, in head radii


def random_color(rng: np.random.Generator) -> Color:
    """Sample a color, with grays, blacks and whites as common as among clothes."""
    hue, saturation, value = rng.random(3)
    saturation = saturation * 0.15 if rng.random() < 0.3 else 0.2 + 0.8 * saturation
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, 0.12 + 0.86 * value))
    return red, green, blue


def random_tile(rng: np.random.Generator) -> Bytes:
    """Sample a pattern of 0 and 1 that repeats without a seam: stripes, checks, dots or blots."""
    kind, step, share = rng.integers(6), TILE_SIDE // 2 ** int(rng.integers(1, 3)), rng.uniform(0.3, 0.6)
    steps = np.arange(TILE_SIDE) % step
    x, y = np.broadcast_arrays(steps, steps[:, None])
    stripes, rungs = x < share * step, y < share * step
    if kind < 4:
        tile = (rungs, stripes, stripes ^ rungs, stripes | rungs)[kind]
    elif kind == 4:
        tile = np.hypot(x - step / 2 + 0.5, y - step / 2 + 0.5) < 0.36 * step
    else:
        coarse = np.pad(rng.random((128 // step,) * 2), 1, "wrap")
        tile = (
            np.asarray(cv2.resize(coarse, (TILE_SIDE + step // 2,) * 2))[step // 4 : -step // 4, step // 4 : -step // 4]
            > 0.5
        )
    return np.ascontiguousarray(tile, np.uint8)


def random_material(rng: np.random.Generator, patterned: float, color: Color | None = None) -> Material:
    """Sample a material, with probability `patterned` of a pattern."""
    color = color or random_color(rng)
    if rng.random() >= patterned:
        return Material(color)
    return Material(color, random_color(rng), random_tile(rng), float(rng.uniform(0.10, 0.30)))


def random_appearance(rng: np.random.Generator, difficulty: float, background: Color | None = None) -> Appearance:
    """Sample a person's clothes and hair. A garment sometimes has the color `background`, which makes it harder."""
    patterned = 0.2 + 0.6 * difficulty
    tone = rng.random() * (len(_SKINS) - 1)
    low, part = int(tone), tone % 1
    skin = tuple(round(a + (b - a) * part) for a, b in zip(_SKINS[low], _SKINS[low + 1], strict=True))
    bare = shade((skin[0], skin[1], skin[2]), rng.uniform(0.9, 1.05))
    colors = [background if rng.random() < 0.35 * difficulty else None for _ in range(3)]
    if rng.random() < 0.15 * difficulty:
        colors[rng.integers(3)] = bare  # skin-colored clothes
    shirt, trousers = random_material(rng, patterned, colors[0]), random_material(rng, 0.7 * patterned, colors[1])
    one_piece = rng.random() < 0.15
    return Appearance(
        skin=Material(bare),
        hair=Material(_HAIRS[rng.integers(len(_HAIRS))]),
        shirt=shirt,
        trousers=shirt if one_piece else trousers,
        shoes=Material(random_color(rng)),
        extra=random_material(rng, patterned, colors[2]),
        sleeve=float(rng.choice((0.0, rng.uniform(0.35, 0.8), rng.uniform(0.8, 1.6), 2.0), p=(0.12, 0.33, 0.15, 0.4))),
        leg=float(rng.choice((rng.uniform(0.35, 0.9), rng.uniform(0.9, 1.6), 2.0), p=(0.3, 0.15, 0.55))),
        loose=float(rng.uniform(0.002, 0.008 + 0.014 * difficulty)),
        skirt=float(rng.uniform(0.5, 1.5)) if rng.random() < 0.18 else 0.0,
        hair_style=("bald", "short", "short", "long", "long", "bun", "cap")[rng.integers(7)],
        backpack=bool(rng.random() < 0.3),
        front=("plain", "logo", "buttons", "tie")[rng.integers(4)],
        glasses=bool(rng.random() < 0.2),
        outline=shade(random_color(rng), 0.35) if rng.random() < 0.3 else None,
        eye=float(rng.uniform(0.15, 0.22)),
    )
