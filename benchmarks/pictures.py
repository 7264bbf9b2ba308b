"""The pictures of README.md and docs: the demo's report and its contact sheet. Synthetic people only.

    python -m benchmarks.pictures --demo runs/demo

Trains the demo in `--demo` unless it is finished there. Needs Chromium or Chrome, for screenshots of the report.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semipose.formats.labels import load_labels
from semipose.tasks.check import sheet
from semipose.tasks.demo import demo

ROOT = Path(__file__).parents[1]
WIDTH = 860  # px of the report's page
GAP = 24
PAPER = (38, 42, 48)

Picture = NDArray[np.uint8]


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--chromium", default="chromium", help="the browser's program")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    args = parser.parse_args()
    if not (args.demo / "run" / "report.html").is_file():
        demo(args.demo)
    args.out.mkdir(parents=True, exist_ok=True)
    report = screenshot(args.demo / "run" / "report.html", args.chromium, height=930)
    write(args.out / "report.webp", report)
    people = load_labels(args.demo / "people" / "labels.json", args.demo / "people" / "images")
    labels = cv2.cvtColor(sheet(people), cv2.COLOR_RGB2BGR)
    write(args.out / "overview.webp", beside(report, labels))


def screenshot(page: Path, chromium: str, height: int) -> Picture:
    """The first `height` pixels of `page`, (H, W, 3) BGR."""
    with tempfile.TemporaryDirectory() as folder:
        copy, file = Path(folder) / "page.html", Path(folder) / "page.png"
        # A reader's folder, not that of the machine.
        here = str(page.resolve().parents[1])
        copy.write_text(page.read_text(encoding="utf-8").replace(here, "runs/demo"), encoding="utf-8")
        flags = ["--headless", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{height}"]
        # Chromium's sandbox does not start as root, as in containers. The page is our own and has no scripts.
        flags += ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
        subprocess.run([chromium, *flags, f"--screenshot={file}", copy.as_uri()], check=True)
        image = cv2.imread(str(file))
    assert image is not None, f"{chromium} took no screenshot"
    return np.asarray(image, np.uint8)


def beside(left: Picture, right: Picture) -> Picture:
    """Both as wide as the left one, where the right one is not enlarged."""
    scale = min(1.0, left.shape[1] / right.shape[1])
    right = np.asarray(cv2.resize(right, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    rest = max(0, left.shape[0] - right.shape[0])
    above = rest // 2
    right = np.asarray(
        cv2.copyMakeBorder(right, above, rest - above, GAP, GAP, cv2.BORDER_CONSTANT, value=PAPER[::-1]), np.uint8
    )
    return np.concatenate([left, right[: left.shape[0]]], axis=1)


def write(file: Path, image: Picture) -> None:
    """As WebP; prints its size."""
    assert cv2.imwrite(str(file), image, [cv2.IMWRITE_WEBP_QUALITY, 82])
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB, {image.shape[1]}x{image.shape[0]}")


if __name__ == "__main__":
    main()
