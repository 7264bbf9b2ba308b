"""Random people as 3D points: body shape, pose and camera.

Body frame: the pelvis is the origin, x points to the person's left, y up, z forward. Lengths are in body heights,
angles in degrees. A `Camera` projects these points to pixels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from semipose.synthetic.arrays import Array

Range = tuple[float, float]

KEYPOINTS = (
    "right_ankle",
    "right_knee",
    "right_hip",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_wrist",
    "right_elbow",
    "right_shoulder",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "neck",
    "head_top",
)
_LIMB_ENDS = ("right_heel", "right_toe", "right_hand", "left_heel", "left_toe", "left_hand")
POINTS = (*KEYPOINTS, *_LIMB_ENDS, "belly", "waist")  # keypoints, and points that the renderer needs
POINT = {name: row for row, name in enumerate(POINTS)}
BODY_SIDES = (("right", -1.0), ("left", 1.0))  # name and sign of x in the body frame


@dataclass(frozen=True)
class Shape:
    """Lengths of one person; `shoulder` and `hip` are half widths, `head` is the radius of the skull."""

    head: float
    neck: float
    torso: float
    shoulder: float
    hip: float
    upper_arm: float
    forearm: float
    thigh: float
    shin: float
    foot: float
    girth: float  # factor on the thickness of every limb
    belly: float  # radius of the middle of the body


class LegRange(NamedTuple):
    """Hip flexion (forward is positive), outward spread, knee flexion."""

    flex: Range
    spread: Range
    knee: Range


class ArmRange(NamedTuple):
    """Shoulder flexion, outward spread, elbow flexion and its direction: 0 forward, 90 in, -90 out."""

    flex: Range
    spread: Range
    elbow: Range
    turn: Range


class Action(NamedTuple):
    """Ranges of joint angles. Which leg (arm) is the right one is random."""

    bend: Range  # torso, forward
    legs: tuple[LegRange, LegRange]
    arms: tuple[ArmRange, ArmRange]


_STRAIGHT = LegRange((-6, 8), (1, 10), (0, 12))
_HANGING = ArmRange((-18, 22), (6, 22), (2, 45), (0, 50))
_WAVING = ArmRange((0, 30), (70, 110), (40, 110), (-110, -60))
_AKIMBO = ArmRange((-35, -5), (30, 50), (75, 110), (50, 90))
_RAISED = ArmRange((120, 185), (5, 40), (0, 70), (-20, 60))
_SIDEWAYS = ArmRange((-15, 25), (55, 110), (0, 100), (-100, 20))
_FORWARD = ArmRange((50, 105), (0, 35), (0, 60), (0, 70))
_FOLDED = ArmRange((15, 40), (5, 20), (85, 125), (30, 75))
_DOWNWARD = ArmRange((40, 110), (0, 30), (0, 40), (0, 50))

ACTIONS: dict[str, Action] = {
    "stand": Action((-5, 8), (_STRAIGHT, _STRAIGHT), (_HANGING, _HANGING)),
    "pose": Action((-5, 10), (_STRAIGHT, LegRange((0, 30), (5, 25), (0, 50))), (_AKIMBO, _HANGING)),
    "fold": Action((-4, 8), (_STRAIGHT, _STRAIGHT), (_FOLDED, _FOLDED)),
    "wave": Action((-6, 8), (_STRAIGHT, _STRAIGHT), (_WAVING, _HANGING)),
    "walk": Action(
        (0, 12),
        (LegRange((12, 35), (0, 6), (0, 20)), LegRange((-30, -8), (0, 6), (10, 45))),
        (ArmRange((-40, -10), (4, 18), (5, 40), (0, 20)), ArmRange((10, 40), (4, 18), (10, 60), (0, 30))),
    ),
    "run": Action(
        (5, 25),
        (LegRange((35, 80), (0, 8), (40, 100)), LegRange((-35, -5), (0, 8), (25, 100))),
        (ArmRange((-60, -25), (5, 25), (70, 110), (0, 30)), ArmRange((20, 60), (5, 25), (70, 115), (0, 40))),
    ),
    "reach": Action((-8, 20), (_STRAIGHT, LegRange((-20, 15), (2, 18), (0, 30))), (_RAISED, _HANGING)),
    "cheer": Action((-12, 8), (_STRAIGHT, _STRAIGHT), (_RAISED, _RAISED)),
    "star": Action((-6, 8), (LegRange((-5, 10), (12, 38), (0, 12)),) * 2, (_SIDEWAYS, _SIDEWAYS)),
    "give": Action((0, 25), (_STRAIGHT, LegRange((0, 25), (2, 15), (0, 30))), (_FORWARD, _FORWARD)),
    "bend": Action((35, 95), (LegRange((-10, 15), (2, 15), (0, 35)),) * 2, (_DOWNWARD, _DOWNWARD)),
    "sit": Action((-12, 20), (LegRange((75, 98), (4, 25), (60, 100)),) * 2, (_FOLDED, _HANGING)),
    "squat": Action((20, 55), (LegRange((75, 115), (10, 40), (90, 135)),) * 2, (_FORWARD, _FOLDED)),
    "kneel": Action(
        (-5, 25),
        (LegRange((75, 95), (2, 20), (75, 100)), LegRange((-10, 15), (2, 15), (80, 110))),
        (_HANGING, _DOWNWARD),
    ),
    "lunge": Action(
        (0, 30),
        (LegRange((40, 80), (2, 20), (40, 90)), LegRange((-40, -15), (2, 15), (5, 35))),
        (_SIDEWAYS, _FORWARD),
    ),
    "jump": Action((-15, 20), (LegRange((-20, 70), (5, 35), (10, 110)),) * 2, (_RAISED, _SIDEWAYS)),
    "kick": Action((-25, 5), (LegRange((55, 100), (0, 25), (0, 30)), _STRAIGHT), (_SIDEWAYS, _HANGING)),
}
_CALM = ("stand", "pose", "fold", "wave", "walk", "reach", "cheer", "star", "give")


@dataclass(frozen=True)
class Body:
    """A posed person: `points` (P, 3) as in `POINTS`; `chest` and `head` are rotations (3, 3) to the body's axes."""

    shape: Shape
    points: Array
    chest: Array
    head: Array
    head_center: Array


@dataclass(frozen=True)
class Camera:
    """Perspective camera `distance` body heights away; the pelvis is at `shift`, a body height `scale` pixels."""

    rotation: Array
    distance: float
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def project(self, points: Array) -> Array:
        """Project points (P, 3) to (P, 4): x, y in pixels, nearness in body heights, pixels per body height there."""
        turned = points @ self.rotation.T
        size = self.scale * self.distance / (self.distance - turned[:, 2])
        return np.stack(
            [turned[:, 0] * size + self.shift[0], self.shift[1] - turned[:, 1] * size, turned[:, 2], size], axis=1
        )


def rotation(pitch: float, yaw: float, roll: float) -> Array:
    """Return the matrix (3, 3) that turns by `yaw` about y, `pitch` about x, then `roll` about z; degrees."""
    angles = np.radians([pitch, yaw, roll])
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def random_shape(rng: np.random.Generator, difficulty: float) -> Shape:
    """Sample the proportions of a person; `difficulty` 0..1 widens their spread."""
    spread = 0.06 + 0.10 * difficulty
    factor = 1 + spread * np.clip(rng.standard_normal(12), -2, 2)
    mean = (0.075, 0.055, 0.285, 0.115, 0.068, 0.165, 0.15, 0.235, 0.235, 0.10, 1.0, 0.075)
    lengths = [m * float(f) for m, f in zip(mean, factor, strict=True)]
    heavy = float(rng.beta(1.5, 4.0)) * (0.5 + difficulty)  # few people are heavy
    lengths[10] *= 0.92 + 0.5 * heavy
    lengths[11] *= 0.9 + 0.7 * heavy
    return Shape(*lengths)


def random_body(rng: np.random.Generator, difficulty: float) -> Body:
    """Sample a person in a plausible pose; `difficulty` 0..1 adds rarer actions and mixes of two actions."""
    shape = random_shape(rng, difficulty)
    names = tuple(ACTIONS) if rng.random() < 0.1 + 0.9 * difficulty else _CALM
    action = ACTIONS[names[rng.integers(len(names))]]
    arms = action.arms
    if rng.random() < 0.5 * difficulty:
        arms = ACTIONS[names[rng.integers(len(names))]].arms
    wide = 4 + 10 * difficulty
    chest = rotation(_within(rng, action.bend), rng.normal(0, wide), rng.normal(0, 0.6 * wide))
    nod = rng.normal(5, wide) - 0.3 * _within(rng, action.bend)
    head = chest @ rotation(nod, rng.normal(0, 2 * wide), rng.normal(0, wide))
    points = np.zeros((len(POINTS), 3))
    leg_turn, arm_turn = rng.integers(2, size=2)
    for side, (name, sign) in enumerate(BODY_SIDES):
        leg, arm = action.legs[(side + leg_turn) % 2], arms[(side + arm_turn) % 2]
        _place_leg(points, name, sign, shape, _angles(rng, leg), rng.uniform(5, 45))
        _place_arm(points, name, sign, shape, chest, _angles(rng, arm))
    points[POINT["neck"]] = chest @ (0, shape.torso + 0.022, 0)
    points[POINT["waist"]] = chest @ (0, 0.3 * shape.torso, 0)
    points[POINT["belly"]] = chest @ (0, 0.35 * shape.torso, 0.35 * max(shape.belly - 0.06, 0.0))
    throat = points[POINT["neck"]] + chest @ (0, 0.5 * shape.neck, 0)
    center = throat + head @ (0, 0.5 * shape.neck + 0.9 * shape.head, 0.012)
    points[POINT["head_top"]] = center + head @ (0, 1.05 * shape.head, 0)
    return Body(shape, points, chest, head, center)


def random_camera(rng: np.random.Generator, difficulty: float) -> Camera:
    """Sample a viewpoint: mostly front or back, sometimes the side, rarely a person lying down."""
    yaw = rng.normal(0, 20 + 20 * difficulty) + 180 * (rng.random() < min(0.1 + 0.6 * difficulty, 0.4))
    if rng.random() < 0.3 * difficulty:
        yaw = rng.uniform(-180, 180)
    lean = rng.normal(0, 3 + 6 * difficulty)
    if rng.random() < 0.15 * difficulty:
        lean = rng.uniform(35, 110) * (1 if rng.random() < 0.5 else -1)
    return Camera(rotation(rng.normal(4, 4 + 6 * difficulty), yaw, lean), rng.uniform(3.0, 8.0))


def _within(rng: np.random.Generator, limits: Range) -> float:
    return float(rng.uniform(*limits))


def _angles(rng: np.random.Generator, ranges: tuple[Range, ...]) -> Array:
    low, high = np.asarray(ranges).T
    return np.asarray(np.radians(rng.uniform(low, high)))


def _limb_axes(sign: float, flex: float, spread: float) -> Array:
    """Axes (3, 3) of a limb, as rows: along it, the direction of flexion, inward.

    Of a hanging limb they are (0, -1, 0), (0, 0, 1), (-sign, 0, 0).
    """
    cf, sf, ca, sa = np.cos(flex), np.sin(flex), np.cos(spread), np.sin(spread)
    return np.array([[sign * sa, -ca * cf, ca * sf], [0.0, sf, cf], [-sign * ca, -sa * cf, sa * sf]])


def _place_leg(points: Array, name: str, sign: float, shape: Shape, angles: Array, point_down: float) -> None:
    flex, spread, knee = angles
    along, forward, inward = _limb_axes(sign, flex, spread)
    shin = np.cos(knee) * along - np.sin(knee) * forward
    toward_toe = np.cos(knee) * forward + np.sin(knee) * along - 0.25 * inward
    down = np.radians(point_down)
    toe = np.cos(down) * toward_toe + np.sin(down) * shin
    hip = np.array([sign * shape.hip, 0.0, 0.0])
    knee_point = hip + shape.thigh * along
    ankle = knee_point + shape.shin * shin
    heel = ankle + 0.022 * shin - 0.015 * toward_toe
    parts = {"hip": hip, "knee": knee_point, "ankle": ankle, "heel": heel, "toe": heel + shape.foot * toe}
    for part, point in parts.items():
        points[POINT[f"{name}_{part}"]] = point


def _place_arm(points: Array, name: str, sign: float, shape: Shape, chest: Array, angles: Array) -> None:
    flex, spread, elbow, turn = angles
    along, forward, inward = _limb_axes(sign, flex, spread)
    hinge = np.cos(turn) * forward + np.sin(turn) * inward
    lower = np.cos(elbow) * along + np.sin(elbow) * hinge
    # A raised arm lifts its shoulder.
    shoulder = np.array([sign * shape.shoulder, shape.torso - 0.005 + 0.022 * along[1], 0.0])
    elbow_point = shoulder + shape.upper_arm * along
    wrist = elbow_point + shape.forearm * lower
    parts = {"shoulder": shoulder, "elbow": elbow_point, "wrist": wrist, "hand": wrist + 0.055 * lower}
    for part, point in parts.items():
        points[POINT[f"{name}_{part}"]] = chest @ point
