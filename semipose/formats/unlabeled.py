"""Unlabeled images and videos in, people without poses out; of a json only the boxes are read."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semipose.data.paths import files_inside, image_folder, leads_out
from semipose.data.people import Images, People
from semipose.data.unposed import blank_people, whole_image_rows
from semipose.errors import DataError, UsageError
from semipose.formats.coco import blind_people, read_table
from semipose.formats.coco_records import ReadOptions
from semipose.formats.detections import Detections, detected_rows, load_detections
from semipose.formats.video import EVERY_FIFTH, SUFFIXES, Sampling, frame_files, is_video
from semipose.pose.skeleton import Skeleton

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class FoundFiles:
    """The image and video files of some sources, absolute, each once; `notes` say what was left out."""

    files: list[str]
    notes: list[str]


def load_unlabeled(
    sources: Sequence[str | Path],
    *,
    skeleton: Skeleton,
    images_dir: str | Path | None = None,
    detections: str | Path | None = None,
    categories: frozenset[int] = frozenset(),
    sampling: Sampling | None = EVERY_FIFTH,
    whole_images: bool = False,
) -> People:
    """People of unlabeled images, with blank poses of `skeleton`.

    A source is a folder (searched with its subfolders, sorted), a glob, a list file (.txt, one path a line, inside
    the list's own folder or `images_dir`), an image, a video, or a COCO json. A video, also one that a folder, glob
    or list holds, stands for the frames that `sampling` keeps; None refuses it. Of a json only images and boxes are
    read, never keypoints; its files lie in `images_dir`, or beside the json where the first is not there. Boxes come
    from `detections` (COCO results; of `categories` where it has several), else the json, else the whole image: one
    person an image. For files without a json, detections name the file instead of an image id, with or without its
    folder and suffix; a frame is called "clip.mp4/000123.jpg". With `whole_images` no box is read: each image is one
    person.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    if not sources:
        raise DataError("no unlabeled images are given; expected a folder, a glob, a list file or a json.")
    found = None if detections is None else load_detections(detections, categories)
    jsons = [Path(source) for source in sources if _is_json(source)]
    others = [source for source in sources if not _is_json(source)]
    given = find_files(others, images_dir)
    _check_videos([file for file in given.files if is_video(file)], sampling)
    parts = [_from_files(given, _names(others), skeleton, found, sampling)] if others else []
    parts += [_from_json(path, images_dir, skeleton, found, whole_images) for path in jsons]
    people = People.concatenate(parts)
    if len(people) == 0:
        why = "; ".join(people.notes) or "it holds no image with a box"
        raise DataError(f"{_names(sources)}: no unlabeled person was found ({why}).")
    return replace(people.select(slice(None)), skeleton=skeleton)


def _check_videos(videos: Sequence[str], sampling: Sampling | None) -> None:
    if sampling is not None:
        sampling.refuse_without(videos)
    elif videos:
        raise UsageError(f"{videos[0]}: a video among images; give each video alone.")


def _names(sources: Sequence[str | Path]) -> str:
    more = f" and {len(sources) - 5} more" if len(sources) > 5 else ""
    return ", ".join(map(str, sources[:5])) + more


def _is_json(source: str | Path) -> bool:
    return Path(source).suffix.lower() == ".json"


def _from_json(
    path: Path, images_dir: str | Path | None, skeleton: Skeleton, found: Detections | None, whole_images: bool
) -> People:
    folder = _folder_of(path, images_dir)
    # Faults in boxes that nobody reads are none.
    rule = "image" if whole_images else "auto"
    request = ReadOptions(path, folder, {}, rule, labeled_ids=frozenset(), category_name=skeleton.name)
    return blind_people(read_table(request), skeleton, found, str(path), whole_images=whole_images)


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
    given: FoundFiles, source: str, skeleton: Skeleton, found: Detections | None, sampling: Sampling | None
) -> People:
    files, notes = [], list(given.notes)
    for file in given.files:
        if sampling is not None and is_video(file):
            frames = frame_files(file, sampling)
            files += frames.files
            notes.append(frames.note)
        else:
            files.append(file)
    count = len(files)
    images = Images(tuple(files), np.arange(1, count + 1), np.zeros((count, 2), np.int64), tuple({} for _ in files))
    at = np.arange(count)
    rows = whole_image_rows(images, at) if found is None else detected_rows(images, at, found, by_name=True)
    if found is None:
        images.sizes[rows.image_index] = rows.boxes[:, [3, 2]].astype(np.int64)
    people = blank_people(images, rows, len(skeleton), source)
    return replace(people, skeleton=skeleton, notes=(*notes, *people.notes))


def find_files(sources: Sequence[str | Path], images_dir: str | Path | None = None) -> FoundFiles:
    """The image and video files of folders, globs, list files and single files, in that order, each once."""
    parts = [_files_of(str(source), images_dir) for source in sources]
    given = [file for part in parts for file in part.files]
    files = list(dict.fromkeys(given))
    notes = [note for part in parts for note in part.notes]
    if len(files) < len(given):
        notes.append(f"unlabeled files given more than once, used once: {len(given) - len(files)}")
    return FoundFiles(files, notes)


def _files_of(source: str, images_dir: str | Path | None) -> FoundFiles:
    suffix = Path(source).suffix.lower()
    if os.path.isdir(source):
        found = _folder(source)
    elif suffix == ".txt" and os.path.isfile(source):
        found = _listed(Path(source), images_dir)
    elif os.path.isfile(source) and suffix in IMAGE_SUFFIXES | SUFFIXES:
        found = FoundFiles([os.path.abspath(source)], [])
    elif glob.has_magic(source):
        matches = sorted(glob.glob(source, recursive=True))
        found = FoundFiles([os.path.abspath(one) for one in matches if _is_picture(one) and os.path.isfile(one)], [])
    else:
        what = "a file of an unknown kind" if os.path.exists(source) else "nothing"
        raise DataError(
            f"{source}: found {what}; expected a folder, a glob in quotes, a video, a .txt list or a COCO json."
        )
    if not found.files:
        why = f" ({'; '.join(found.notes)})" if found.notes else ""
        kinds = ", ".join(sorted(IMAGE_SUFFIXES | SUFFIXES))
        raise DataError(f"{source}: found no image and no video{why}; expected {kinds} files.")
    return found


def _is_picture(name: str) -> bool:
    """Whether a file of a folder is looked at; hidden ones are other programs' own."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES | SUFFIXES and not os.path.basename(name).startswith(".")


def _folder(source: str) -> FoundFiles:
    """All images and videos below a folder, sorted by path; links are followed only inside it."""
    folder = os.path.abspath(source)
    root = os.path.realpath(folder)
    files = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names if _is_picture(name)]
    inside = [file for file in files if not (os.path.islink(file) and leads_out(file, root))]
    left = len(files) - len(inside)
    notes = [f"links that lead out of {source}, left out: {left}"] if left else []
    return FoundFiles(sorted(inside), notes)


def _listed(path: Path, images_dir: str | Path | None) -> FoundFiles:
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
    return FoundFiles([os.path.normpath(file) for file in files], [])
