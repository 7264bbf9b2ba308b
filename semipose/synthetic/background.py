"""Surroundings of a synthetic person: background, clutter, occluders, and the camera's light, blur and noise."""

import cv2
import numpy as np
from numpy.typing import NDArray

from semipose.synthetic.appearance import Appearance, random_color, random_material
from semipose.synthetic.arrays import Array, Bytes
from semipose.synthetic.canvas import Canvas, Color, Material

Floats = NDArray[np.float32]


def octaves(rng: np.random.Generator, size: tuple[int, int], channels: int, roughness: float) -> Floats:
    """Sample smooth noise (H, W, channels) with mean 0 and deviation near 1; `roughness` 0..1 weights fine grain."""
    total = np.zeros((*size, channels), np.float32)
    weight = 1.0
    for cells in (3, 7, 16, 40):
        grid = rng.standard_normal((cells, cells, channels), np.float32)
        fine = cv2.resize(grid, size[::-1], interpolation=cv2.INTER_LINEAR)
        total += weight * np.asarray(fine, np.float32).reshape(total.shape)
        weight *= roughness
    return total


def background(rng: np.random.Generator, size: tuple[int, int], difficulty: float) -> tuple[Bytes, Color]:
    """Sample a picture (H, W, 3) without people, and return it with one of its main colors."""
    first, second = random_color(rng), random_color(rng)
    share = _mixture(rng, size)[..., None]
    start, end = np.array(first, np.float32), np.array(second, np.float32)
    grain = octaves(rng, size, 3, rng.uniform(0.3, 0.95)) * rng.uniform(2, 8 + 24 * difficulty)
    image = np.clip(start + share * (end - start) + grain, 0, 255).astype(np.uint8)
    for _ in range(rng.poisson(2 + 10 * difficulty)):
        _clutter(rng, image)
    if rng.random() < 0.5:  # out of focus
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 3.0)), np.uint8)
    return image, first if rng.random() < 0.5 else second


def _mixture(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Share (H, W) of the second color: a gradient, clouds, floor and wall, stripes, tiles or bricks."""
    y, x = np.arange(size[0], dtype=np.float32)[:, None], np.arange(size[1], dtype=np.float32)
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(5, 40), rng.uniform(0, 6.3)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = cosine * x + sine * y, cosine * y - sine * x
    kind = rng.integers(6)
    if kind == 0:
        mix = (u - u.min()) / (np.ptp(u) + 1e-6)
    elif kind == 1:
        mix = 0.5 + 0.4 * octaves(rng, size, 1, 0.6)[..., 0]
    elif kind == 2:
        mix = np.float32(y > rng.uniform(0.45, 0.95) * size[0]) + 0 * x
    elif kind == 3:
        mix = (np.sin(2 * np.pi * u / period + phase) > rng.uniform(-0.7, 0.7)).astype(np.float32)
    elif kind == 4:
        mix = ((np.floor(u / period) + np.floor(v / period)) % 2).astype(np.float32)
    else:  # bricks
        row = np.floor(y / period)
        mix = ((y % period < 1.5) | ((x + period * (row % 2)) % (2 * period) < 1.5)).astype(np.float32)
    return np.asarray(np.clip(mix, 0, 1), np.float32)


def _clutter(rng: np.random.Generator, image: Bytes) -> None:
    """Draw one polygon, ellipse or bar of random color and position."""
    height, width = image.shape[:2]
    center = rng.uniform((0, 0), (width, height))
    color = random_color(rng)
    kind = rng.integers(3)
    if kind == 0:
        spread = rng.uniform(0.05, 0.35) * width
        points = np.rint(center + rng.normal(0, spread, (int(rng.integers(3, 7)), 2))).astype(np.int32)
        cv2.fillPoly(image, [points], color, cv2.LINE_AA)
    elif kind == 1:
        axes = rng.uniform(0.02, 0.2, 2) * width
        cv2.ellipse(image, (tuple(center), tuple(2 * axes), rng.uniform(0, 180)), color, -1, cv2.LINE_AA)
    else:
        end = center + rng.normal(0, 0.4 * width, 2)
        ends = [(int(p[0]), int(p[1])) for p in (center, end)]
        cv2.line(image, ends[0], ends[1], color, int(rng.integers(1, 12)), cv2.LINE_AA)


def loose_limbs(rng: np.random.Generator, canvas: Canvas, appearance: Appearance, count: int) -> None:
    """Paint `count` limbs and blobs in a person's colors anywhere, as distractors without keypoints."""
    unit = canvas.unit
    for _ in range(count):
        start = rng.uniform((0, 0), canvas.size[::-1])
        angle = rng.uniform(0, 2 * np.pi)
        length = rng.uniform(0, 0.28) * unit
        centers = np.stack([start, start + length * np.array([np.cos(angle), np.sin(angle)])])
        radii = rng.uniform(0.02, 0.06) * unit * np.array([1.0, rng.uniform(0.6, 1)])
        part = ("skin", "skin", "shirt", "trousers", "hair")[rng.integers(5)]
        canvas.solid(centers, radii, getattr(appearance, part))


def occluder(rng: np.random.Generator, canvas: Canvas, target: Array, skin: Material) -> None:
    """Paint one occluder near the point `target` (2,): a box, a pole, leaves, or another person's arm."""
    unit, kind = canvas.unit, rng.integers(4)
    center = target + rng.normal(0, 0.04 * unit, 2)
    material = random_material(rng, 0.4)
    if kind == 0:
        half = rng.uniform(0.05, 0.14, 2) * unit
        corners = center + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        canvas.solid(corners, np.full(4, 0.012 * unit), material)
    elif kind == 1:
        angle = np.pi / 2 + rng.normal(0, 0.35) if rng.random() < 0.7 else rng.uniform(0, np.pi)
        reach = 2 * max(canvas.size) * np.array([np.cos(angle), np.sin(angle)])
        radii = np.full(2, rng.uniform(0.012, 0.035) * unit)
        canvas.solid(np.stack([center - reach, center + reach]), radii, material)
    elif kind == 2:
        leaf = Material((int(rng.integers(20, 110)), int(rng.integers(70, 170)), int(rng.integers(15, 80))))
        for base in center + rng.normal(0, 0.07 * unit, (int(rng.integers(6, 18)), 2)):
            tip = base + rng.normal(0, 0.03 * unit, 2)
            canvas.solid(np.stack([base, tip]), rng.uniform(0.008, 0.03) * unit * np.array([1, 0.4]), leaf)
    else:
        angle = rng.uniform(0, 2 * np.pi)
        hand = center + rng.uniform(0.25, 0.6) * unit * np.array([np.cos(angle), np.sin(angle)])
        canvas.solid(np.stack([center, hand]), np.array([0.024, 0.036]) * unit, skin)


def photograph(rng: np.random.Generator, image: Bytes, difficulty: float) -> Bytes:
    """Apply a camera's light, contrast, white balance, blur and noise to a picture (H, W, 3)."""
    height, width = image.shape[:2]
    picture = image.astype(np.float32)
    gain = 1 + rng.normal(0, 0.03 + 0.07 * difficulty, 3) + rng.normal(0, 0.06 + 0.16 * difficulty)
    contrast = float(rng.uniform(1 - 0.5 * difficulty, 1 + 0.3 * difficulty))
    slope = rng.normal(0, 0.1 + 0.15 * difficulty, 2)
    ramp = 1 + slope[0] * np.linspace(-1, 1, height)[:, None] + slope[1] * np.linspace(-1, 1, width)
    picture = (picture - 118) * contrast + 118
    picture *= ramp[..., None].astype(np.float32) * np.clip(gain, 0.35, 1.6).astype(np.float32)
    if rng.random() < 0.3 + 0.4 * difficulty:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.5 + 0.9 * difficulty)), np.float32)
    grain = rng.integers(-127, 128, image.shape, np.int8).astype(np.float32)
    picture += grain * rng.uniform(0.01, 0.03 + 0.11 * difficulty)
    return np.clip(picture, 0, 255).astype(np.uint8)
