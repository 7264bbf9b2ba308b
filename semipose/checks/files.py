"""Check image files: copies between streams, unreadable images, sizes that differ from the labels'."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

from semipose.checks.finding import Finding, examples
from semipose.data.image_size import decoded_size
from semipose.data.people import Images, People
from semipose.formats.load import Data


def find_copies(data: Data) -> Iterator[Finding]:
    """Find the same picture in two streams under any name: files of the same size are compared by a hash."""
    labeled, unlabeled, val = _files(data.labeled), _files(data.unlabeled), _files(data.val)
    keys = _content_keys([labeled, unlabeled, val])
    if both := _shared(labeled, val, keys):
        yield Finding(
            "error",
            f"{len(both)} labeled images are also validation images: {_pairs(both)}",
            "Remove them from one of the two: scores on training images are too good.",
        )
    if both := _shared(val, unlabeled, keys):
        yield Finding(
            "warning",
            f"{len(both)} validation images are also among the unlabeled ones: {_pairs(both)}",
            "Remove them from the unlabeled images, or report that training used them without labels.",
        )
    if both := _shared(labeled, unlabeled, keys):
        yield Finding(
            "warning",
            f"{len(both)} labeled images are also among the unlabeled ones: {_pairs(both)}",
            "Harmless, but without benefit; remove them from the unlabeled images.",
        )
    for name, files in (("labeled", labeled), ("validation", val)):
        if twice := _repeated(files, keys):
            yield Finding(
                "warning",
                f"{len(twice)} {name} images appear twice under different names: {_pairs(twice)}",
                "Keep one of each, with all of its labels.",
            )


def find_unreadable(data: Data) -> Iterator[Finding]:
    """Decode every labeled image; find corrupt ones, and sizes that differ from those in the labels."""
    for name, people in (("labeled", data.labeled), ("validation", data.val)):
        if people is None:
            continue
        with ThreadPoolExecutor(os.cpu_count() or 1, "semipose-check") as pool:
            sizes = list(pool.map(decoded_size, people.images.files))
        bad = [file for file, size in zip(people.images.files, sizes, strict=True) if size is None]
        if bad:
            yield Finding(
                "error",
                f"{len(bad)} {name} images cannot be decoded: {examples(bad)}",
                "Replace the files, or remove the images and their people from the labels.",
            )
        yield from _wrong_sizes(name, people.images, sizes)


def _wrong_sizes(name: str, images: Images, sizes: list[tuple[int, int] | None]) -> Iterator[Finding]:
    odd: list[str] = []
    turned: list[str] = []
    for i, size in enumerate(sizes):
        stated = (int(images.sizes[i, 0]), int(images.sizes[i, 1]))
        if size is None or 0 in stated or stated == size:
            continue
        text = f"image {images.ids[i]} is {size[1]}x{size[0]}, in the labels {stated[1]}x{stated[0]}"
        (turned if stated == size[::-1] else odd).append(text)
    if odd:
        yield Finding(
            "error",
            f"{len(odd)} {name} images differ in size from the labels (width x height): {examples(odd, 3)}",
            "The labels belong to another version of these pictures: use those, or scale the labels.",
        )
    if turned:
        yield Finding(
            "error",
            f"{len(turned)} {name} images are rotated by 90 degrees against the labels: {examples(turned, 3)}",
            "EXIF orientation rotates them on decoding. Save them rotated, or remove the tag, as they were labeled.",
        )


def _files(people: People | None) -> tuple[str, ...]:
    return () if people is None else people.images.files


def _content_keys(streams: Iterable[Iterable[str]]) -> dict[str, str]:
    """Return a key of each file's content; only files that share their size with another one are read."""
    files = {file: os.path.realpath(file) for stream in streams for file in stream}
    by_size: dict[int, set[str]] = defaultdict(set)
    for real in files.values():
        if os.path.isfile(real):
            by_size[os.path.getsize(real)].add(real)
    alike = [real for group in by_size.values() if len(group) > 1 for real in group]
    with ThreadPoolExecutor(8, "semipose-hash") as pool:
        hashes = dict(zip(alike, pool.map(_hash, alike), strict=True))
    return {file: hashes.get(real, real) for file, real in files.items()}


def _hash(file: str) -> str:
    with open(file, "rb") as stream:
        return blake2b(stream.read(), digest_size=16).hexdigest()


def _shared(first: Iterable[str], second: Iterable[str], keys: dict[str, str]) -> list[tuple[str, str]]:
    known = {keys[file]: file for file in second}
    return [(file, known[keys[file]]) for file in first if keys[file] in known]


def _repeated(files: Iterable[str], keys: dict[str, str]) -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    pairs = []
    for file in files:
        other = first.setdefault(keys[file], file)
        if other != file:
            pairs.append((file, other))
    return pairs


def _pairs(pairs: list[tuple[str, str]]) -> str:
    return examples([a if a == b else f"{a} = {b}" for a, b in pairs], 3)
