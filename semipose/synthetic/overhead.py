"""Fisheye camera in the ceiling: people are foreshortened, heads outward, at any angle in the picture."""

from dataclasses import dataclass

import numpy as np

from semipose.synthetic.arrays import Array
from semipose.synthetic.body import Camera, rotation


@dataclass(frozen=True)
class Overhead(Camera):
    """Equidistant fisheye lens that points straight down, `distance` body heights from the pelvis.

    A point's distance from the center of the lens's image is its angle to the optical axis. The pelvis is at `shift`,
    where a body height across the line of sight is `scale` pixels along the radius. At the pelvis, `rotation` takes the
    body's axes to the picture's right and up, and toward the lens.
    """

    def project(self, points: Array) -> Array:
        """Project points (P, 3) to (P, 4): x, y in pixels, nearness in body heights, pixels per body height there."""
        away = points @ self.rotation.T - (0, 0, self.distance)
        reach = np.linalg.norm(away, axis=1)
        down = -self.rotation[:, 1]
        # Directions across the optical axis: outward to the pelvis, and to the right of that in the picture.
        outward = np.array([0, 0, -1]) + down[2] * down
        outward /= np.linalg.norm(outward)
        right = np.cross(down, outward)
        across = np.stack([away @ right, away @ outward], axis=1)
        aside = np.linalg.norm(across, axis=1)
        angle = np.arctan2(aside, away @ down)
        unit = outward[:2] / np.linalg.norm(outward[:2])
        lens = (angle / np.maximum(aside, 1e-9))[:, None] * across @ np.stack([right[:2], unit])
        offset = self.scale * self.distance * (lens - np.arccos(-down[2]) * unit)
        # Across the radius lengths are larger than along it, by angle / sin(angle); `size` is the geometric mean.
        size = self.scale * self.distance / reach * np.sqrt(angle * reach / np.maximum(aside, 1e-9))
        return np.stack(
            [offset[:, 0] + self.shift[0], self.shift[1] - offset[:, 1], self.distance - reach, size], axis=1
        )


def random_overhead(rng: np.random.Generator) -> Overhead:
    """Sample a lens 1.1 to 2 body heights above the pelvis, up to 2.5 aside, anywhere around the person."""
    above, aside = rng.uniform(1.1, 2.0), rng.uniform(0.15, 2.5)
    pitch = np.degrees(np.arctan2(above, aside))
    return Overhead(rotation(pitch, *rng.uniform(-180, 180, 2)), float(np.hypot(above, aside)))
