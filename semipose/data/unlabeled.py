"""Unlabeled images in, people without poses out: a folder, a glob, a list file, or a json read for its boxes only."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semipose.data.blank import blank_people, detected_rows, whole_image_rows
from semipose.data.boxes import Detections, load_detections
from semipose.data.coco import blind_people, read_table
from semipose.data.paths import files_inside, image_folder, leads_out
from semipose.data.people import Images, People
from semipose.data.records import Request
from semipose.errors import DataError
from semipose.skeleton import Skeleton

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})


@dataclass(frozen=True)
class _Found:
    """The image files of a source, and what was left out."""

    files: list[str]
    notes: list[str]


def load_unlabeled(
    sources: Sequence[str | Path],
    *,
    skeleton: Skeleton,
    images_dir: str | Path | None = None,
    detections: str | Path | None = None,
    categories: frozenset[int] = frozenset(),
) -> People:
    """People of unlabeled images, with blank poses of `skeleton`.

    A source is a folder (searched with its subfolders, sorted), a glob, a list file (.txt, one path a line, inside
    the list's own folder or `images_dir`), an image, or a COCO json. Of a json only images and boxes are read, never
    keypoints; its files lie in `images_dir`, or beside the json where the first is not there. Boxes come from
    `detections` (COCO results; of `categories` where it has several), else the json, else the whole image: one
    person an image. For files without a json, detections name the file instead of an image id.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    if not sources:
        raise DataError("no unlabeled images are given; expected a folder, a glob, a list file or a json.")
    found = None if detections is None else load_detections(detections, categories)
    parts, seen = [], set[str]()
    for source in sources:
        if Path(source).suffix.lower() == ".json":
            parts.append(_from_json(Path(source), images_dir, skeleton, found))
        else:
            parts.append(_from_files(str(source), images_dir, skeleton, found, seen))
    people = People.concatenate(parts)
    if len(people) == 0:
        why = "; ".join(people.notes) or "it holds no image with a box"
        raise DataError(f"{', '.join(map(str, sources))}: no unlabeled person was found ({why}).")
    return replace(people.select(slice(None)), skeleton=skeleton)


def _from_json(path: Path, images_dir: str | Path | None, skeleton: Skeleton, found: Detections | None) -> People:
    folder = _folder_of(path, images_dir)
    request = Request(path, folder, {}, "auto", labeled_ids=frozenset(), category_name=skeleton.name)
    return blind_people(read_table(request), skeleton, found, str(path))


def _folder_of(path: Path, images_dir: str | Path | None) -> str:
    """`images_dir` unless the first image is only found beside the json."""
    if images_dir is None:
        return image_folder(path.parent)
    import msgspec

    class Named(msgspec.Struct):
        file_name: str

    class Listing(msgspec.Struct):
        images: list[Named] = []

    try:
        images = msgspec.json.decode(path.read_bytes(), type=Listing).images
    except (OSError, msgspec.MsgspecError):
        return image_folder(images_dir)  # The reader that follows says what is wrong with the file.
    beside = bool(images) and not files_inside(str(path.parent.absolute()), [images[0].file_name])[1]
    there = bool(images) and not files_inside(os.path.abspath(images_dir), [images[0].file_name])[1]
    return image_folder(path.parent if beside and not there else images_dir)


def _from_files(
    source: str, images_dir: str | Path | None, skeleton: Skeleton, found: Detections | None, seen: set[str]
) -> People:
    """`seen` holds the files of earlier sources; each file is used once."""
    given = _files_of(source, images_dir)
    files = tuple(file for file in dict.fromkeys(given.files) if file not in seen)
    seen.update(files)
    count = len(files)
    notes = list(given.notes)
    if count < len(given.files):
        notes.append(f"unlabeled files given more than once, used once: {len(given.files) - count}")
    images = Images(files, np.arange(1, count + 1), np.zeros((count, 2), np.int64), tuple({} for _ in files))
    at = np.arange(count)
    rows = whole_image_rows(images, at) if found is None else detected_rows(images, at, found, by_name=True)
    if found is None:
        images.sizes[rows.image_index] = rows.boxes[:, [3, 2]].astype(np.int64)
    people = blank_people(images, rows, len(skeleton), source)
    return replace(people, skeleton=skeleton, notes=(*notes, *people.notes))


def _files_of(source: str, images_dir: str | Path | None) -> _Found:
    suffix = Path(source).suffix.lower()
    if os.path.isdir(source):
        found = _folder(source)
    elif suffix in VIDEO_SUFFIXES:
        raise DataError(
            f"{source}: a video; expected images. Write its frames into a folder first, for example "
            f"`ffmpeg -i {source} -r 5 frames/%06d.jpg`, and give that folder."
        )
    elif suffix == ".txt" and os.path.isfile(source):
        found = _listed(Path(source), images_dir)
    elif os.path.isfile(source) and suffix in IMAGE_SUFFIXES:
        found = _Found([os.path.abspath(source)], [])
    elif glob.has_magic(source):
        matches = sorted(glob.glob(source, recursive=True))
        found = _Found([os.path.abspath(one) for one in matches if _is_image(one) and os.path.isfile(one)], [])
    else:
        what = "a file of an unknown kind" if os.path.exists(source) else "nothing"
        raise DataError(
            f"{source}: found {what}; expected a folder of images, a glob in quotes, a .txt list or a COCO json."
        )
    if not found.files:
        why = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise DataError(f"{source}: found no image{why}; expected {', '.join(sorted(IMAGE_SUFFIXES))} files.")
    return found


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not os.path.basename(name).startswith(".")


def _folder(source: str) -> _Found:
    """All images below a folder, sorted by path; links are followed only inside it."""
    folder = os.path.abspath(source)
    root = os.path.realpath(folder)
    files = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names if _is_image(name)]
    inside = [file for file in files if not (os.path.islink(file) and leads_out(file, root))]
    left = len(files) - len(inside)
    notes = [f"links that lead out of {source}, left out: {left}"] if left else []
    return _Found(sorted(inside), notes)


def _listed(path: Path, images_dir: str | Path | None) -> _Found:
    """The paths of a list file, one a line; empty lines and lines that start with # are skipped."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error.reason}); expected one image path a line.") from error
    names = [line for line in lines if line and not line.startswith("#")]
    folder = image_folder(path.parent)
    faults = files_inside(folder, names)[1]
    if faults and images_dir is not None:
        other = image_folder(images_dir)
        if len(files_inside(other, names)[1]) < len(faults):
            folder = other
    files, faults = files_inside(folder, names)
    if faults:
        shown = "".join(f"\n  line {names[row]!r}: {fault}" for row, fault in sorted(faults.items())[:20])
        raise DataError(
            f"{path}: {len(faults)} of {len(names)} lines name no usable file in {folder}{shown}\n"
            "Paths are relative to the list's folder and stay inside it; for other places give the folder or a glob."
        )
    return _Found([os.path.normpath(file) for file in files], [])
