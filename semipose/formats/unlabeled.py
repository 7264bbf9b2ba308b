"""Load unlabeled images and videos as people without poses; of label files only the boxes are read."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semipose.data.paths import files_inside, image_folder, leads_out
from semipose.data.people import Images, People
from semipose.data.unposed import unposed_people, whole_image_boxes
from semipose.errors import DataError, UsageError
from semipose.formats import available, find_format, list_images, read_table
from semipose.formats.detections import Detections, detected_boxes, load_detections
from semipose.formats.label_format import ReadOptions
from semipose.formats.labels import unlabeled_people
from semipose.formats.video import DEFAULT_SAMPLING, VIDEO_SUFFIXES, Sampling, frame_files, is_video
from semipose.pose.skeleton import Skeleton

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class FoundFiles:
    """The image and video files of some sources, absolute, each once; `notes` say what was skipped."""

    files: list[str]
    notes: list[str]


def load_unlabeled(
    sources: Sequence[str | Path],
    *,
    skeleton: Skeleton,
    images_dir: str | Path | None = None,
    detections: str | Path | None = None,
    categories: frozenset[int] = frozenset(),
    sampling: Sampling | None = DEFAULT_SAMPLING,
    whole_images: bool = False,
) -> People:
    """Load the people of unlabeled images, without poses, for `skeleton`.

    A source is one of these:

    - a folder, searched with its subfolders, in sorted order
    - a glob
    - a list file (.txt): one path per line, inside the list's own folder or `images_dir`
    - an image
    - a video: it stands for the frames that `sampling` keeps; None refuses videos. Folders, globs and lists may hold
      videos too.
    - labels in any format, such as a COCO json: only images and boxes are read. The files are in `images_dir`, or
      beside the labels if the first image is not in `images_dir`.

    Boxes come from `detections` (COCO results; of `categories` if it has several), else from the labels, else each
    whole image is one person. For files without labels, detections give the file's name instead of an image id, see
    `detected_boxes`; a frame is called "clip.mp4/000123.jpg". With `whole_images` no box is read, and each image is one
    person.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    if not sources:
        raise DataError("no unlabeled images are given; expected a folder, a glob, a list file or labels.")
    detected = None if detections is None else load_detections(detections, categories)
    labels = [Path(source) for source in sources if find_format(source) is not None]
    others = [source for source in sources if Path(source) not in labels]
    found = find_files(others, images_dir)
    _check_videos([file for file in found.files if is_video(file)], sampling)
    parts = [_from_files(found, _names(others), skeleton, detected, sampling)] if others else []
    parts += [_from_labels(path, images_dir, skeleton, detected, whole_images) for path in labels]
    people = People.concatenate(parts)
    if len(people) == 0:
        why = "; ".join(people.notes) or "no image has a box"
        raise DataError(f"{_names(sources)}: found no unlabeled {skeleton.name} ({why}).")
    return replace(people.select(slice(None)), skeleton=skeleton)


def _check_videos(videos: Sequence[str], sampling: Sampling | None) -> None:
    if sampling is not None:
        sampling.refuse_if_unused(videos)
    elif videos:
        raise UsageError(f"{videos[0]}: a video among images; give each video alone.")


def _names(sources: Sequence[str | Path]) -> str:
    more = f" and {len(sources) - 5} more" if len(sources) > 5 else ""
    return ", ".join(map(str, sources[:5])) + more


def _from_labels(
    path: Path, images_dir: str | Path | None, skeleton: Skeleton, detected: Detections | None, whole_images: bool
) -> People:
    # Boxes that are not used must not be able to stop the run.
    boxes = "image" if whole_images else "auto"
    options = ReadOptions(
        path, _folder_of(path, images_dir), {}, boxes, labeled_ids=frozenset(), category_name=skeleton.name
    )
    return unlabeled_people(read_table(options), skeleton, detected, str(path), whole_images=whole_images)


def _folder_of(path: Path, images_dir: str | Path | None) -> str:
    """`images_dir`, or the folder of the labels if the first image is only found there."""
    if images_dir is None:
        return image_folder(path.parent)
    try:
        names = [one.file_name for one in list_images(path)[:1]]
    except DataError:
        return image_folder(images_dir)  # Reading the table will report all faults.
    beside = bool(names) and not files_inside(os.path.abspath(path.parent), names)[1]
    inside = bool(names) and not files_inside(os.path.abspath(images_dir), names)[1]
    return image_folder(path.parent if beside and not inside else images_dir)


def _from_files(
    found: FoundFiles, source: str, skeleton: Skeleton, detected: Detections | None, sampling: Sampling | None
) -> People:
    files, notes = [], list(found.notes)
    for file in found.files:
        if sampling is not None and is_video(file):
            frames = frame_files(file, sampling)
            files += frames.files
            notes.append(frames.note)
        else:
            files.append(file)
    count = len(files)
    images = Images(tuple(files), np.arange(1, count + 1), np.zeros((count, 2), np.int64), tuple({} for _ in files))
    rows = np.arange(count)
    if detected is None:
        boxes = whole_image_boxes(images, rows)
        images.sizes[boxes.image_index] = boxes.boxes[:, [3, 2]].astype(np.int64)
    else:
        boxes = detected_boxes(images, rows, detected, by_name=True)
    people = unposed_people(images, boxes, len(skeleton), source)
    return replace(people, skeleton=skeleton, notes=(*notes, *people.notes))


def find_files(sources: Sequence[str | Path], images_dir: str | Path | None = None) -> FoundFiles:
    """Find the image and video files of folders, globs, list files and single files, in that order, each once."""
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
    elif os.path.isfile(source) and suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        found = FoundFiles([os.path.abspath(source)], [])
    elif glob.has_magic(source):
        matches = sorted(glob.glob(source, recursive=True))
        found = FoundFiles([os.path.abspath(one) for one in matches if _is_picture(one) and os.path.isfile(one)], [])
    else:
        what = "a file of an unknown kind" if os.path.exists(source) else "nothing"
        raise DataError(
            f"{source}: found {what}; expected a folder, a glob in quotes, an image, a video, a .txt list, or labels "
            f"in a known format ({', '.join(available())})."
        )
    if not found.files:
        why = f" ({'; '.join(found.notes)})" if found.notes else ""
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise DataError(f"{source}: found no image and no video{why}; expected {suffixes} files.")
    return found


def _is_picture(name: str) -> bool:
    """Whether a file in a folder is used; hidden files belong to other programs."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not os.path.basename(name).startswith(".")


def _folder(source: str) -> FoundFiles:
    """Find all images and videos below a folder, sorted by path; links are followed only inside it."""
    folder = os.path.abspath(source)
    root = os.path.realpath(folder)
    files = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names if _is_picture(name)]
    inside = [file for file in files if not (os.path.islink(file) and leads_out(file, root))]
    skipped = len(files) - len(inside)
    notes = [f"links that lead out of {source}, skipped: {skipped}"] if skipped else []
    return FoundFiles(sorted(inside), notes)


def _listed(path: Path, images_dir: str | Path | None) -> FoundFiles:
    """Read the paths of a list file, one per line; empty lines and lines that start with # are skipped."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error.reason}); expected one image path per line.") from error
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
            "Paths are relative to the list's folder and inside it; elsewhere use a folder or a glob."
        )
    return FoundFiles([os.path.normpath(file) for file in files], [])
