"""`semipose check`: print findings on the data with their remedies, and draw a contact sheet of the labels."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from semipose.checks.checks import Finding
from semipose.checks.checks import check as find_problems
from semipose.crops.crop import read_image
from semipose.data.people import People
from semipose.drawing import PAPER, SIDE_COLORS, Noun, contact_sheet, draw, person_tile, save_jpeg, write_text
from semipose.formats.load import Data
from semipose.pose.names import plural
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton

LEVEL_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}
MAX_TILES = 24
COLUMNS = 6
TILE_SIZE = 200  # px


def check(data: Data, out: str | Path | None = None, quick: bool = False) -> int:
    """Print what was loaded, and all findings with their remedies; return 1 if there is an error, else 0.

    `out` is the file of the contact sheet (.jpg), or a folder for `contact_sheet.jpg`; None draws none. `quick` skips
    the checks that read every image.
    """
    console = Console()
    for note in data.notes:
        console.print(note, style="dim", markup=False, highlight=False)
    findings = find_problems(data, quick)
    for finding in findings:
        _print(console, finding)
    _summary(console, data, findings)
    if out is not None:
        console.print(f"contact sheet: {write_sheet(data.labeled, out)}", highlight=False, markup=False)
    return int(any(finding.level == "error" for finding in findings))


def write_sheet(people: People, out: str | Path) -> Path:
    """Draw the contact sheet of `people` and return its file."""
    out = Path(out)
    file = out if out.suffix.lower() in (".jpg", ".jpeg") else out / "contact_sheet.jpg"
    save_jpeg(file, sheet(people))
    return file


def sheet(people: People) -> NDArray[np.uint8]:
    """Draw up to 24 labeled people, evenly chosen, and one of them beside its mirror image; RGB (H, W, 3)."""
    assert people.skeleton is not None
    labeled = np.flatnonzero((people.poses.visible > 0).any(1))
    chosen = labeled[np.linspace(0, len(labeled) - 1, min(MAX_TILES, len(labeled))).round().astype(int)]
    tiles = []
    for row in chosen:
        image = read_image(people.images.files[people.image_index[row]])
        if image is not None:
            tiles.append(_labeled_tile(image, people.poses[[int(row)]], people.skeleton))
    columns = min(COLUMNS, max(3, len(tiles)))
    drawn = contact_sheet(tiles, columns) if tiles else np.full((40, 3 * TILE_SIZE, 3), PAPER, np.uint8)
    mirrored = _mirror_strip(people, labeled)
    parts = [part for part in (_legend(people.skeleton, drawn.shape[1]), mirrored, drawn) if part is not None]
    width = max(part.shape[1] for part in parts)
    padded = [
        cv2.copyMakeBorder(part, 0, 0, 0, width - part.shape[1], cv2.BORDER_CONSTANT, value=PAPER) for part in parts
    ]
    return np.concatenate(padded)


def mirror(image: NDArray[np.uint8], poses: Poses, skeleton: Skeleton) -> tuple[NDArray[np.uint8], Poses]:
    """Mirror `image` and the labels in it: the left wrist becomes the right one."""
    moved = poses[np.arange(len(poses))]
    flip = list(skeleton.flip)
    moved.keypoints = moved.keypoints[:, flip]
    moved.keypoints[..., 0] = image.shape[1] - 1 - moved.keypoints[..., 0]
    moved.visible, moved.scores = moved.visible[:, flip], moved.scores[:, flip]
    # A box from x to x + w, in coordinates of pixel centers, starts at W - 1 - x - w in the mirror image.
    moved.boxes = moved.boxes.copy()
    moved.boxes[:, 0] = image.shape[1] - 1 - moved.boxes[:, 0] - moved.boxes[:, 2]
    return np.ascontiguousarray(image[:, ::-1]), moved


def _labeled_tile(
    image: NDArray[np.uint8], pose: Poses, skeleton: Skeleton, size: int = TILE_SIZE, names: bool = False
) -> NDArray[np.uint8]:
    tile = person_tile(image, pose.boxes[0], size)
    return draw(tile.pixels, tile.move(pose), skeleton, faded=False, names=names)


def _mirror_strip(people: People, labeled: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    """Draw the most completely labeled person beside its mirror image, with names; None without a readable image."""
    assert people.skeleton is not None
    fullest = labeled[np.argsort(-(people.poses.visible[labeled] > 0).sum(1), kind="stable")][:5]
    for row in fullest:
        image = read_image(people.images.files[people.image_index[row]])
        if image is None:
            continue
        pose = people.poses[[int(row)]]
        pair = [(image, pose), mirror(image, pose, people.skeleton)]
        tiles = [_labeled_tile(*each, people.skeleton, size=2 * TILE_SIZE, names=True) for each in pair]
        for tile, title in zip(tiles, ("as labeled", "mirrored, sides exchanged"), strict=True):
            write_text(tile, title, (10, 22), 0.6)
        return contact_sheet(tiles, 2)
    return None


def _legend(skeleton: Skeleton, width: int) -> NDArray[np.uint8]:
    """Draw two lines: the colors of the sides, and what to check in the large pictures."""
    strip = np.full((64, max(width, 3 * TILE_SIZE), 3), PAPER, np.uint8)
    x, noun = 12, Noun.of(skeleton.name).singular
    for side, text in (("left", f"the {noun}'s left"), ("right", f"the {noun}'s right"), ("center", "no partner")):
        cv2.circle(strip, (x + 6, 20), 6, SIDE_COLORS[side], -1, cv2.LINE_AA)
        write_text(strip, text, (x + 20, 25), 0.5, SIDE_COLORS[side])
        x += 200
    hint = f"In both large pictures, a {noun} that faces the camera has its left side (orange) on the right."
    if all(partner == index for index, partner in enumerate(skeleton.flip)):
        hint = "No keypoint has a left/right partner: mirroring changes no name."
    write_text(strip, hint, (12, 52), 0.42)
    return strip


def _print(console: Console, finding: Finding) -> None:
    console.print(f"[{LEVEL_COLORS[finding.level]}]{finding.level:>7}[/]  ", end="")
    # Texts hold file names, whose [brackets] are no markup.
    console.print(finding.text, markup=False, highlight=False)
    if finding.remedy:
        console.print(f"         {finding.remedy}", style="dim", markup=False, highlight=False)


def _summary(console: Console, data: Data, findings: list[Finding]) -> None:
    labeled, skeleton = data.labeled, data.labeled.skeleton
    assert skeleton is not None
    pairs = sum(index < partner for index, partner in enumerate(skeleton.flip))
    unlabeled = f", {len(data.unlabeled)} unlabeled" if data.unlabeled is not None else ""
    counts = ", ".join(f"{sum(f.level == level for f in findings)} {level}s" for level in LEVEL_COLORS)
    console.print(
        f"{len(labeled)} labeled {plural(skeleton.name)} in {len(labeled.images)} images{unlabeled}, "
        f"{len(skeleton)} keypoints, {pairs} mirror pairs, boxes: {labeled.box_source}; {counts}",
        markup=False,
        highlight=False,
    )
