"""Renderer of a posed and dressed body on a canvas, far parts first, with the visibility of its keypoints.

Front (face, logo, buttons) and back (hair, backpack) differ, so that left and right are well defined.
"""

from collections.abc import Callable, Iterable

import numpy as np

from semipose.synthetic.appearance import Appearance
from semipose.synthetic.arrays import Array, Bytes
from semipose.synthetic.body import BODY_SIDES, KEYPOINTS, POINT, Body, Camera
from semipose.synthetic.canvas import Canvas, Color, Material, shade

_DARK: Color = (30, 26, 28)
_FINE_DETAIL = 0.0205  # body heights; smaller shapes get no outline

# Owners of paints: the part of the labeled person that is visible at a pixel.
HEAD, TORSO = 1, 2
UPPER_ARM, FOREARM, THIGH, SHIN = ((first, first + 1) for first in (3, 5, 7, 9))  # right, left
_PARTS_AT: dict[str, tuple[int, ...]] = {"neck": (HEAD, TORSO), "head_top": (HEAD,)}
for _side, (_name, _) in enumerate(BODY_SIDES):
    _PARTS_AT |= {
        f"{_name}_ankle": (SHIN[_side],),
        f"{_name}_knee": (THIGH[_side], SHIN[_side], TORSO),
        f"{_name}_hip": (THIGH[_side], TORSO),
        f"{_name}_wrist": (FOREARM[_side],),
        f"{_name}_elbow": (UPPER_ARM[_side], FOREARM[_side]),
        f"{_name}_shoulder": (UPPER_ARM[_side], TORSO),
    }


class PersonRenderer:
    """Renderer of one person on one canvas. `owned` people are labeled, others are background."""

    def __init__(self, canvas: Canvas, body: Body, camera: Camera, appearance: Appearance, *, owned: bool) -> None:
        self.canvas, self.body, self.camera, self.appearance, self.owned = canvas, body, camera, appearance, owned
        self.points = camera.project(body.points)
        self._parts: list[tuple[float, Callable[[], None]]] = []
        for side in (0, 1):
            self._leg(side)
            self._arm(side)
        self._trunk()
        self._pack()
        self._head()

    def draw(self) -> None:
        """Paint all parts, the far ones first."""
        for _, paint in sorted(self._parts, key=lambda part: part[0]):
            paint()

    def keypoints(self) -> Array:
        """Keypoints (14, 2) in picture pixels."""
        return self.points[: len(KEYPOINTS), :2]

    def visible(self) -> Bytes:
        """Flags (14,): 2 where the keypoint's own part is on top, 1 where it is hidden, 0 outside the picture."""
        flags = np.zeros(len(KEYPOINTS), np.uint8)
        for row, name in enumerate(KEYPOINTS):
            x, y = self.points[row, :2]
            if self.canvas.owner_at(x, y) < 0:
                continue
            if name == "head_top":  # the point itself lies on the outline
                center = self.camera.project(self.body.head_center[None])[0]
                x, y = 0.75 * x + 0.25 * center[0], 0.75 * y + 0.25 * center[1]
            owner = self.canvas.owner_at(x, y)
            hidden = owner not in _PARTS_AT[name] or (owner == TORSO and self._is_far_side(name))
            flags[row] = 1 if hidden else 2
        return flags

    def _is_far_side(self, name: str) -> bool:
        """Return whether a shoulder or hip is so far behind its partner that the trunk hides it."""
        side, _, part = name.partition("_")
        if part not in ("shoulder", "hip"):
            return False
        partner = POINT[f"{'left' if side == 'right' else 'right'}_{part}"]
        return bool(self.points[partner, 2] - self.points[POINT[name], 2] > 0.1)

    def _add(self, depth: float, owner: int, points: Array, radii: Array, material: Material) -> None:
        """Add a hull of balls to the parts: `points` (P, 4) as projected, `radii` (P,) in body heights."""
        if not len(points):
            return
        centers, sizes = points[:, :2], radii * points[:, 3]

        def paint() -> None:
            if self.appearance.outline is not None and float(radii.max()) > _FINE_DETAIL:
                line = self.canvas.paints((self.appearance.outline,), owner * self.owned)
                self.canvas.hull(centers, sizes + 0.007 * self.camera.scale, line)
            self.canvas.solid(centers, sizes, material, owner * self.owned)

        self._parts.append((depth, paint))

    def _segment(
        self, start: str, end: str, radii: tuple[float, float], owner: int, covered: float, cloth: Material, bias: float
    ) -> None:
        """Add a limb of skin, with `cloth` over the share `covered` of its length from `start`."""
        points = self.points[[POINT[start], POINT[end]]]
        sizes = np.asarray(radii) * self.body.shape.girth
        depth = float(points[:, 2].mean()) + bias
        if covered < 1:
            self._add(depth, owner, points, sizes, self.appearance.skin)
        if covered > 0.05:
            part = min(covered, 1.0)
            ends = np.stack([points[0], points[0] + part * (points[1] - points[0])])
            widths = np.array([sizes[0], sizes[0] + part * (sizes[1] - sizes[0])]) + self.appearance.loose
            self._add(depth + 1e-4, owner, ends, widths, cloth)

    def _leg(self, side: int) -> None:
        name, appearance = BODY_SIDES[side][0], self.appearance
        leg = 0.0 if appearance.skirt else appearance.leg
        self._segment(f"{name}_hip", f"{name}_knee", (0.058, 0.042), THIGH[side], leg, appearance.trousers, 0.0)
        self._segment(f"{name}_knee", f"{name}_ankle", (0.041, 0.026), SHIN[side], leg - 1, appearance.trousers, -0.005)
        foot = self.points[[POINT[f"{name}_heel"], POINT[f"{name}_toe"]]]
        self._add(float(foot[:, 2].mean()), SHIN[side], foot, np.array([0.027, 0.021]), appearance.shoes)

    def _arm(self, side: int) -> None:
        name, appearance = BODY_SIDES[side][0], self.appearance
        shoulder, elbow, wrist = f"{name}_shoulder", f"{name}_elbow", f"{name}_wrist"
        self._segment(shoulder, elbow, (0.040, 0.030), UPPER_ARM[side], appearance.sleeve, appearance.shirt, 0.03)
        self._segment(elbow, wrist, (0.030, 0.021), FOREARM[side], appearance.sleeve - 1, appearance.shirt, 0.035)
        hand = self.points[[POINT[wrist], POINT[f"{name}_hand"]]]
        hand[0] += 0.4 * (hand[1] - hand[0])
        self._add(float(hand[:, 2].mean()) + 0.03, FOREARM[side], hand, np.array([0.022, 0.024]), appearance.skin)

    def _trunk(self) -> None:
        shape, appearance = self.body.shape, self.appearance
        hips = self.points[[POINT["right_hip"], POINT["left_hip"]]]
        pelvis = np.concatenate([self.points[[POINT["waist"]]], hips])
        depth = float(pelvis[:, 2].mean())
        sizes = np.array([shape.belly * 0.9, 0.058, 0.058]) * np.array([1, shape.girth, shape.girth])
        self._add(depth - 0.004, TORSO, pelvis, sizes + appearance.loose, appearance.trousers)
        shoulders = self.points[[POINT["right_shoulder"], POINT["left_shoulder"]]]
        names = ("neck", "right_shoulder", "left_shoulder", "belly", "waist")
        trunk = self.points[[POINT[name] for name in names]]
        trunk[0] += 0.25 * (trunk[4] - trunk[0])
        trunk[1:3] += 0.12 * (shoulders.mean(0) - shoulders)
        sizes = np.array([0.055, 0.042, 0.042, shape.belly, shape.belly * 0.92])
        self._add(float(trunk[:, 2].mean()), TORSO, trunk, sizes + appearance.loose, appearance.shirt)
        if appearance.skirt:
            knees = self.points[[POINT["right_knee"], POINT["left_knee"]]]
            hem = hips + min(appearance.skirt, 1.4) * 0.8 * (knees - hips)
            points = np.concatenate([pelvis[:1], hips, hem])
            wide = np.array([shape.belly * 0.9, 0.06, 0.06, 0.07, 0.07]) + 2 * appearance.loose
            self._add(max(depth, float(knees[:, 2].mean())) + 0.01, TORSO, points, wide, appearance.trousers)
        self._chest_front()

    def _on_chest(self, x: float, y: float, z: float) -> Array:
        """Project a point in the chest's frame: left, up from the pelvis, forward; body heights."""
        return self.camera.project((self.body.chest @ (x, y, z))[None])[0]

    def _facing(self, turn: Array) -> float:
        """Cosine (-1..1) between the camera's direction and the front of a part rotated by `turn`."""
        return float((self.camera.rotation @ turn)[2, 2])

    def _chest_front(self) -> None:
        torso, appearance, facing = self.body.shape.torso, self.appearance, self._facing(self.body.chest)
        if appearance.front == "plain" or facing < 0.25:
            return
        reach = 0.06 * facing
        depth = float(self.points[POINT["belly"], 2]) + 0.012
        if appearance.front == "logo":
            spots = [(self._on_chest(0.0, 0.72 * torso, reach), 0.042)]
        elif appearance.front == "buttons":
            spots = [(self._on_chest(0.0, y * torso, reach), 0.009) for y in (0.3, 0.45, 0.6, 0.75, 0.9)]
        else:
            spots = [(self._on_chest(0.0, y * torso, reach), r) for y, r in ((0.9, 0.011), (0.45, 0.02))]
        if appearance.front == "tie":
            self._add(depth, TORSO, np.stack([p for p, _ in spots]), np.array([r for _, r in spots]), appearance.extra)
            return
        for point, radius in spots:
            self._add(depth, TORSO, point[None], np.array([radius]), appearance.extra)

    def _pack(self) -> None:
        torso, appearance = self.body.shape.torso, self.appearance
        if not appearance.backpack:
            return
        corners = np.stack([self._on_chest(x, y * torso, -0.1) for x in (-0.055, 0.055) for y in (0.95, 0.25)])
        trunk = float(self.points[[POINT["neck"], POINT["waist"]], 2].mean())
        facing = self._facing(self.body.chest)
        self._add(trunk - 0.13 * facing, TORSO, corners, np.full(4, 0.045), appearance.extra)
        if facing < 0.2:
            return
        for x in (-0.07, 0.07):
            strap = np.stack([self._on_chest(x, y * torso, 0.05) for y in (0.98, 0.4)])
            self._add(trunk + 0.02, TORSO, strap, np.full(2, 0.014), Material(shade(appearance.extra.color, 0.8)))

    def _in_head(self, *points: tuple[float, float, float] | Array) -> Array:
        """Project points in the head's frame: left, up, forward of its center; head radii."""
        local = np.asarray(points).reshape(-1, 3) * self.body.shape.head
        return self.camera.project(self.body.head_center + local @ self.body.head.T)

    def _head(self) -> None:
        appearance, size, facing = self.appearance, self.body.shape.head, self._facing(self.body.head)
        hair = {"bald": appearance.skin, "cap": appearance.extra}.get(appearance.hair_style, appearance.hair)
        skull = self._in_head((0, 0.12, 0), (0, -0.5, 0.15))
        depth = float(skull[0, 2]) + 0.05
        neck = np.stack([self.points[POINT["neck"]], skull[1]])
        self._add(depth - 0.045, HEAD, neck, np.array([0.034, 0.034]) * self.body.shape.girth, appearance.skin)
        self._add(depth, HEAD, skull, np.array([0.86, 0.62]) * size, appearance.skin)
        crown = self._in_head((0, 0.22, -0.05), (0, -0.1, -0.4))
        self._add(depth + 1e-3, HEAD, crown, np.array([0.86, 0.62]) * size, hair)
        if appearance.hair_style == "long":
            tail = self._in_head((-0.35, 0, -0.35), (0.35, 0, -0.35), (-0.4, -1.5, -0.45), (0.4, -1.5, -0.45))
            self._add(depth - 0.09 * facing, HEAD, tail, np.array([0.6, 0.6, 0.4, 0.4]) * size, hair)
        if appearance.hair_style == "bun":
            bun = self._in_head((0, 0.35, -1.0))
            self._add(depth + 2e-3 - 0.09 * facing, HEAD, bun, np.array([0.42 * size]), hair)
        if facing > -0.45:
            self._face(depth + 3e-3)

    def _on_face(self, directions: Iterable[tuple[float, float]], reach: float, *, bend: bool = False) -> Array:
        """Project the points of the head's surface that face the camera.

        `directions` are degrees to the person's left and up, `reach` is in head radii. With `bend`, points behind the
        outline are moved onto it, if any point is in front.
        """
        left, up = np.radians(np.asarray(list(directions))).T
        vectors = np.stack([np.sin(left) * np.cos(up), np.sin(up), np.cos(left) * np.cos(up)], axis=1)
        seen = vectors @ (self.camera.rotation @ self.body.head).T
        if not bend:
            return self._in_head(*(reach * vectors[seen[:, 2] > 0.12] * (1, 1.15, 1)))
        if seen[:, 2].max() < 0.05:
            return np.zeros((0, 4))
        seen[:, 2] = seen[:, 2].clip(0)
        vectors = seen @ (self.camera.rotation @ self.body.head) / np.linalg.norm(seen, axis=1, keepdims=True)
        return self._in_head(*(reach * vectors * (1, 1.15, 1)))

    def _face(self, depth: float) -> None:
        """Add skin, eyes, nose, mouth, glasses and cap, as far as the camera sees them."""
        appearance, size = self.appearance, self.body.shape.head
        patch = self._on_face(((-38, 26), (38, 26), (-52, -12), (52, -12), (-30, -44), (30, -44)), 0.72, bend=True)
        self._add(depth, HEAD, patch, np.full(len(patch), 0.2 * size), appearance.skin)
        if appearance.hair_style == "cap":
            brim = self._on_face(((-40, 34), (0, 34), (40, 34)), 1.2)
            self._add(
                depth + 3e-3,
                HEAD,
                brim,
                np.full(len(brim), 0.12 * size),
                Material(shade(appearance.extra.color, 0.7)),
            )
        dots: list[tuple[tuple[float, float], float, Color]] = [((0, -9), 0.11, shade(appearance.skin.color, 0.7))]
        for left in (-20, 20):
            if appearance.glasses:
                dots.append(((left, 8), 0.27, (40, 40, 60)))
            else:
                dots += [((left, 8), appearance.eye, (235, 235, 235)), ((left, 7), 0.6 * appearance.eye, _DARK)]
        for nearer, (direction, radius, color) in enumerate(dots):
            spot = self._on_face((direction,), 0.86)
            self._add(depth + 1e-3 + 1e-5 * nearer, HEAD, spot, np.full(len(spot), radius * size), Material(color))
        mouth = self._on_face(((-13, -32), (13, -32)), 0.86)
        self._add(depth + 1e-3, HEAD, mouth, np.full(len(mouth), 0.07 * size), Material((150, 50, 55)))
