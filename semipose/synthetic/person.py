"""Draws a posed and dressed body on a canvas, far parts first, and says which of its keypoints can be seen.

Front (face, logo, buttons) and back (hair, backpack) differ, so left and right can be told apart.
"""

from collections.abc import Callable, Iterable

import numpy as np

from semipose.synthetic.appearance import Look
from semipose.synthetic.body import KEYPOINTS, POINT, SIDES, Array, Body, Camera
from semipose.synthetic.canvas import Bytes, Canvas, Color, Material, shade

_DARK: Color = (30, 26, 28)
_FINE_DETAIL = 0.0205  # body heights; smaller shapes get no outline

# Owners of paints: which part of the person asked for is seen at a pixel.
HEAD, TORSO = 1, 2
UPPER_ARM, FOREARM, THIGH, SHIN = ((first, first + 1) for first in (3, 5, 7, 9))  # right, left
_SHOWN_BY: dict[str, tuple[int, ...]] = {"neck": (HEAD, TORSO), "head_top": (HEAD,)}
for _side, (_name, _) in enumerate(SIDES):
    _SHOWN_BY |= {
        f"{_name}_ankle": (SHIN[_side],),
        f"{_name}_knee": (THIGH[_side], SHIN[_side], TORSO),
        f"{_name}_hip": (THIGH[_side], TORSO),
        f"{_name}_wrist": (FOREARM[_side],),
        f"{_name}_elbow": (UPPER_ARM[_side], FOREARM[_side]),
        f"{_name}_shoulder": (UPPER_ARM[_side], TORSO),
    }


class FigureDrawing:
    """One person on one canvas: parts are planned with their depth, then `draw` paints the far ones first."""

    def __init__(self, canvas: Canvas, body: Body, camera: Camera, look: Look, *, owned: bool) -> None:
        self.canvas, self.body, self.camera, self.look, self.owned = canvas, body, camera, look, owned
        self.at = camera.project(body.points)
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
        """(14, 2) picture pixels."""
        return self.at[: len(KEYPOINTS), :2]

    def visible(self) -> Bytes:
        """(14,) flags by what lies on top: 2 the keypoint's own part, 1 anything else, 0 outside the picture."""
        flags = np.zeros(len(KEYPOINTS), np.uint8)
        for row, name in enumerate(KEYPOINTS):
            x, y = self.at[row, :2]
            if self.canvas.owner_at(x, y) < 0:
                continue
            if name == "head_top":  # the point itself lies on the outline
                center = self.camera.project(self.body.head_center[None])[0]
                x, y = 0.75 * x + 0.25 * center[0], 0.75 * y + 0.25 * center[1]
            owner = self.canvas.owner_at(x, y)
            hidden = owner not in _SHOWN_BY[name] or (owner == TORSO and self._is_far_side(name))
            flags[row] = 1 if hidden else 2
        return flags

    def _is_far_side(self, name: str) -> bool:
        """Whether a shoulder or a hip lies so much behind its partner that the trunk is between it and us."""
        side, _, part = name.partition("_")
        if part not in ("shoulder", "hip"):
            return False
        partner = POINT[f"{'left' if side == 'right' else 'right'}_{part}"]
        return bool(self.at[partner, 2] - self.at[POINT[name], 2] > 0.1)

    def _add(self, depth: float, owner: int, points: Array, radii: Array, material: Material) -> None:
        """Plan a hull of balls: `points` (P, 4) as projected, `radii` (P,) in body heights."""
        if not len(points):
            return
        centers, sizes = points[:, :2], radii * points[:, 3]

        def paint() -> None:
            if self.look.outline is not None and float(radii.max()) > _FINE_DETAIL:
                line = self.canvas.paints((self.look.outline,), owner * self.owned)
                self.canvas.hull(centers, sizes + 0.007 * self.camera.scale, line)
            self.canvas.solid(centers, sizes, material, owner * self.owned)

        self._parts.append((depth, paint))

    def _segment(
        self, start: str, end: str, radii: tuple[float, float], owner: int, covered: float, cloth: Material, bias: float
    ) -> None:
        """A limb of skin, with `cloth` over the share `covered` of it, counted from `start`."""
        points = self.at[[POINT[start], POINT[end]]]
        sizes = np.asarray(radii) * self.body.shape.girth
        depth = float(points[:, 2].mean()) + bias
        if covered < 1:
            self._add(depth, owner, points, sizes, self.look.skin)
        if covered > 0.05:
            part = min(covered, 1.0)
            ends = np.stack([points[0], points[0] + part * (points[1] - points[0])])
            widths = np.array([sizes[0], sizes[0] + part * (sizes[1] - sizes[0])]) + self.look.loose
            self._add(depth + 1e-4, owner, ends, widths, cloth)

    def _leg(self, side: int) -> None:
        name, look = SIDES[side][0], self.look
        leg = 0.0 if look.skirt else look.leg
        self._segment(f"{name}_hip", f"{name}_knee", (0.058, 0.042), THIGH[side], leg, look.trousers, 0.0)
        self._segment(f"{name}_knee", f"{name}_ankle", (0.041, 0.026), SHIN[side], leg - 1, look.trousers, -0.005)
        foot = self.at[[POINT[f"{name}_heel"], POINT[f"{name}_toe"]]]
        self._add(float(foot[:, 2].mean()), SHIN[side], foot, np.array([0.027, 0.021]), look.shoes)

    def _arm(self, side: int) -> None:
        name, look = SIDES[side][0], self.look
        shoulder, elbow, wrist = f"{name}_shoulder", f"{name}_elbow", f"{name}_wrist"
        self._segment(shoulder, elbow, (0.040, 0.030), UPPER_ARM[side], look.sleeve, look.shirt, 0.03)
        self._segment(elbow, wrist, (0.030, 0.021), FOREARM[side], look.sleeve - 1, look.shirt, 0.035)
        hand = self.at[[POINT[wrist], POINT[f"{name}_hand"]]]
        hand[0] += 0.4 * (hand[1] - hand[0])
        self._add(float(hand[:, 2].mean()) + 0.03, FOREARM[side], hand, np.array([0.022, 0.024]), look.skin)

    def _trunk(self) -> None:
        shape, look = self.body.shape, self.look
        hips = self.at[[POINT["right_hip"], POINT["left_hip"]]]
        pelvis = np.concatenate([self.at[[POINT["waist"]]], hips])
        depth = float(pelvis[:, 2].mean())
        sizes = np.array([shape.belly * 0.9, 0.058, 0.058]) * np.array([1, shape.girth, shape.girth])
        self._add(depth - 0.004, TORSO, pelvis, sizes + look.loose, look.trousers)
        shoulders = self.at[[POINT["right_shoulder"], POINT["left_shoulder"]]]
        names = ("neck", "right_shoulder", "left_shoulder", "belly", "waist")
        trunk = self.at[[POINT[name] for name in names]]
        trunk[0] += 0.25 * (trunk[4] - trunk[0])
        trunk[1:3] += 0.12 * (shoulders.mean(0) - shoulders)
        sizes = np.array([0.055, 0.042, 0.042, shape.belly, shape.belly * 0.92])
        self._add(float(trunk[:, 2].mean()), TORSO, trunk, sizes + look.loose, look.shirt)
        if look.skirt:
            knees = self.at[[POINT["right_knee"], POINT["left_knee"]]]
            hem = hips + min(look.skirt, 1.4) * 0.8 * (knees - hips)
            points = np.concatenate([pelvis[:1], hips, hem])
            wide = np.array([shape.belly * 0.9, 0.06, 0.06, 0.07, 0.07]) + 2 * look.loose
            self._add(max(depth, float(knees[:, 2].mean())) + 0.01, TORSO, points, wide, look.trousers)
        self._chest_front()

    def _on_chest(self, x: float, y: float, z: float) -> Array:
        """Project a point given along the chest's axes: left, up from the pelvis, forward; body heights."""
        return self.camera.project((self.body.chest @ (x, y, z))[None])[0]

    def _facing(self, turn: Array) -> float:
        """How much the front of something turned by `turn` points at the camera, -1..1."""
        return float((self.camera.rotation @ turn)[2, 2])

    def _chest_front(self) -> None:
        torso, look, facing = self.body.shape.torso, self.look, self._facing(self.body.chest)
        if look.front == "plain" or facing < 0.25:
            return
        reach = 0.06 * facing
        depth = float(self.at[POINT["belly"], 2]) + 0.012
        if look.front == "logo":
            spots = [(self._on_chest(0.0, 0.72 * torso, reach), 0.042)]
        elif look.front == "buttons":
            spots = [(self._on_chest(0.0, y * torso, reach), 0.009) for y in (0.3, 0.45, 0.6, 0.75, 0.9)]
        else:
            spots = [(self._on_chest(0.0, y * torso, reach), r) for y, r in ((0.9, 0.011), (0.45, 0.02))]
        if look.front == "tie":
            self._add(depth, TORSO, np.stack([p for p, _ in spots]), np.array([r for _, r in spots]), look.extra)
            return
        for point, radius in spots:
            self._add(depth, TORSO, point[None], np.array([radius]), look.extra)

    def _pack(self) -> None:
        torso, look = self.body.shape.torso, self.look
        if not look.backpack:
            return
        corners = np.stack([self._on_chest(x, y * torso, -0.1) for x in (-0.055, 0.055) for y in (0.95, 0.25)])
        trunk = float(self.at[[POINT["neck"], POINT["waist"]], 2].mean())
        facing = self._facing(self.body.chest)
        self._add(trunk - 0.13 * facing, TORSO, corners, np.full(4, 0.045), look.extra)
        if facing < 0.2:
            return
        for x in (-0.07, 0.07):
            strap = np.stack([self._on_chest(x, y * torso, 0.05) for y in (0.98, 0.4)])
            self._add(trunk + 0.02, TORSO, strap, np.full(2, 0.014), Material(shade(look.extra.color, 0.8)))

    def _in_head(self, *points: tuple[float, float, float] | Array) -> Array:
        """Project points given along the head's axes: to the left, up, forward of its center; head radii."""
        local = np.asarray(points).reshape(-1, 3) * self.body.shape.head
        return self.camera.project(self.body.head_center + local @ self.body.head.T)

    def _head(self) -> None:
        look, size, facing = self.look, self.body.shape.head, self._facing(self.body.head)
        hair = {"bald": look.skin, "cap": look.extra}.get(look.hair_style, look.hair)
        skull = self._in_head((0, 0.12, 0), (0, -0.5, 0.15))
        depth = float(skull[0, 2]) + 0.05
        neck = np.stack([self.at[POINT["neck"]], skull[1]])
        self._add(depth - 0.045, HEAD, neck, np.array([0.034, 0.034]) * self.body.shape.girth, look.skin)
        self._add(depth, HEAD, skull, np.array([0.86, 0.62]) * size, look.skin)
        crown = self._in_head((0, 0.22, -0.05), (0, -0.1, -0.4))
        self._add(depth + 1e-3, HEAD, crown, np.array([0.86, 0.62]) * size, hair)
        if look.hair_style == "long":
            tail = self._in_head((-0.35, 0, -0.35), (0.35, 0, -0.35), (-0.4, -1.5, -0.45), (0.4, -1.5, -0.45))
            self._add(depth - 0.09 * facing, HEAD, tail, np.array([0.6, 0.6, 0.4, 0.4]) * size, hair)
        if look.hair_style == "bun":
            bun = self._in_head((0, 0.35, -1.0))
            self._add(depth + 2e-3 - 0.09 * facing, HEAD, bun, np.array([0.42 * size]), hair)
        if facing > -0.45:
            self._face(depth + 3e-3)

    def _on_face(self, directions: Iterable[tuple[float, float]], reach: float, *, bend: bool = False) -> Array:
        """Project the points of the head's surface that the camera sees.

        `directions` are degrees to the person's left and up, `reach` is in head radii. With `bend`, points behind
        the outline are moved onto it, as long as any is in front.
        """
        left, up = np.radians(np.asarray(list(directions))).T
        ways = np.stack([np.sin(left) * np.cos(up), np.sin(up), np.cos(left) * np.cos(up)], axis=1)
        seen = ways @ (self.camera.rotation @ self.body.head).T
        if not bend:
            return self._in_head(*(reach * ways[seen[:, 2] > 0.12] * (1, 1.15, 1)))
        if seen[:, 2].max() < 0.05:
            return np.zeros((0, 4))
        seen[:, 2] = seen[:, 2].clip(0)
        ways = seen @ (self.camera.rotation @ self.body.head) / np.linalg.norm(seen, axis=1, keepdims=True)
        return self._in_head(*(reach * ways * (1, 1.15, 1)))

    def _face(self, depth: float) -> None:
        """Skin, eyes, nose, mouth and what is worn there, as far as the head's turn shows them."""
        look, size = self.look, self.body.shape.head
        patch = self._on_face(((-38, 26), (38, 26), (-52, -12), (52, -12), (-30, -44), (30, -44)), 0.72, bend=True)
        self._add(depth, HEAD, patch, np.full(len(patch), 0.2 * size), look.skin)
        if look.hair_style == "cap":
            brim = self._on_face(((-40, 34), (0, 34), (40, 34)), 1.2)
            self._add(
                depth + 3e-3,
                HEAD,
                brim,
                np.full(len(brim), 0.12 * size),
                Material(shade(look.extra.color, 0.7)),
            )
        dots: list[tuple[tuple[float, float], float, Color]] = [((0, -9), 0.11, shade(look.skin.color, 0.7))]
        for left in (-20, 20):
            if look.glasses:
                dots.append(((left, 8), 0.27, (40, 40, 60)))
            else:
                dots += [((left, 8), look.eye, (235, 235, 235)), ((left, 7), 0.6 * look.eye, _DARK)]
        for nearer, (direction, radius, color) in enumerate(dots):
            spot = self._on_face((direction,), 0.86)
            self._add(depth + 1e-3 + 1e-5 * nearer, HEAD, spot, np.full(len(spot), radius * size), Material(color))
        mouth = self._on_face(((-13, -32), (13, -32)), 0.86)
        self._add(depth + 1e-3, HEAD, mouth, np.full(len(mouth), 0.07 * size), Material((150, 50, 55)))
