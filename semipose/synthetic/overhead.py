"""People seen by a fisheye lens in the ceiling: foreshortened, heads outward, at any angle in the picture."""

from dataclasses import dataclass

import numpy as np

from semipose.synthetic.body import Array, Camera, rotation


@dataclass(frozen=True)
class Overhead(Camera):
    """An equidistant fisheye lens that looks straight down, `distance` body heights from the pelvis.

    How far a point lies from the middle of the lens's picture is its angle to the lens's axis. The pelvis is at
    `shift`, where a body height across the line of sight is `scale` pixels along the radius. `rotation` takes the
    body's axes to right, up and toward the lens as the picture shows them at the pelvis.
    """

    def project(self, points: Array) -> Array:
        """Points (P, 3) to (P, 4): x, y in pixels, nearness in body heights, pixels per body height there."""
        away = points @ self.rotation.T - (0, 0, self.distance)
        reach = np.linalg.norm(away, axis=1)
        down = -self.rotation[:, 1]
        # Across the lens's axis: outward from it to the pelvis, and to the right of that in the picture.
        outward = np.array([0, 0, -1]) + down[2] * down
        outward /= np.linalg.norm(outward)
        right = np.cross(down, outward)
        across = np.stack([away @ right, away @ outward], axis=1)
        aside = np.linalg.norm(across, axis=1)
        angle = np.arctan2(aside, away @ down)
        unit = outward[:2] / np.linalg.norm(outward[:2])
        lens = (angle / np.maximum(aside, 1e-9))[:, None] * across @ np.stack([right[:2], unit])
        seen = self.scale * self.distance * (lens - np.arccos(-down[2]) * unit)
        # Along the radius a length is its angle; across it more, by the angle over its sine.
        size = self.scale * self.distance / reach * np.sqrt(angle * reach / np.maximum(aside, 1e-9))
        return np.stack([seen[:, 0] + self.shift[0], self.shift[1] - seen[:, 1], self.distance - reach, size], axis=1)


def random_overhead(rng: np.random.Generator) -> Overhead:
    """Draw a lens 1.1 to 2 body heights above the pelvis and up to 2.5 to its side, anywhere around the person."""
    above, aside = rng.uniform(1.1, 2.0), rng.uniform(0.15, 2.5)
    pitch = np.degrees(np.arctan2(above, aside))
    return Overhead(rotation(pitch, *rng.uniform(-180, 180, 2)), float(np.hypot(above, aside)))
