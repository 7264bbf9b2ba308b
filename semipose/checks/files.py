"""The image files themselves: copies between streams, unreadable pictures, sizes that disagree with the json."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

from semipose.checks.finding import Finding, examples
from semipose.data.image_size import decoded_size
from semipose.data.people import Images, People
from semipose.formats.load import Data


def copies(data: Data) -> Iterator[Finding]:
    """The same picture in two streams, whatever its name: compared by size, then by a hash of its bytes."""
    labeled, unlabeled, val = _files(data.labeled), _files(data.unlabeled), _files(data.val)
    keys = _content_keys([labeled, unlabeled, val])
    if both := _shared(labeled, val, keys):
        yield Finding(
            "error",
            f"{len(both)} labeled images are also validation images: {_pairs(both)}",
            "Take them out of one of the two; a network scores best on what it was trained on.",
        )
    if both := _shared(val, unlabeled, keys):
        yield Finding(
            "warning",
            f"{len(both)} validation images are also among the unlabeled ones: {_pairs(both)}",
            "Move them out of the unlabeled images, or say beside the result that they were seen without labels.",
        )
    if both := _shared(labeled, unlabeled, keys):
        yield Finding(
            "warning",
            f"{len(both)} labeled images are also among the unlabeled ones: {_pairs(both)}",
            "Harmless for training, but they add nothing there; move them out of the unlabeled images.",
        )
    for name, files in (("labeled", labeled), ("validation", val)):
        if twice := _repeated(files, keys):
            yield Finding(
                "warning",
                f"{len(twice)} {name} images appear twice under different names: {_pairs(twice)}",
                "Keep one of each and put all its people into that one's labels.",
            )


def unreadable(data: Data) -> Iterator[Finding]:
    """Decode every labeled image: corrupt ones, and those whose size is not the one the json says."""
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
                "Replace the files, or take the images and their people out of the json.",
            )
        yield from _wrong_sizes(name, people.images, sizes)


def _wrong_sizes(name: str, images: Images, sizes: list[tuple[int, int] | None]) -> Iterator[Finding]:
    odd: list[str] = []
    turned: list[str] = []
    for i, size in enumerate(sizes):
        said = (int(images.sizes[i, 0]), int(images.sizes[i, 1]))
        if size is None or 0 in said or said == size:
            continue
        text = f"image {images.ids[i]} is {size[1]}x{size[0]}, the json says {said[1]}x{said[0]}"
        (turned if said == size[::-1] else odd).append(text)
    if odd:
        yield Finding(
            "error",
            f"{len(odd)} {name} images do not have the size the json says (width x height): {examples(odd, 3)}",
            "The labels belong to another version of these pictures: use those, or scale the labels.",
        )
    if turned:
        yield Finding(
            "error",
            f"{len(turned)} {name} images are turned by a quarter against the json: {examples(turned, 3)}",
            "A camera's EXIF note turns them when shown; save them turned, or remove the note, as they were labeled.",
        )


def _files(people: People | None) -> tuple[str, ...]:
    return () if people is None else people.images.files


def _content_keys(streams: Iterable[Iterable[str]]) -> dict[str, str]:
    """A key of the content of every file that shares its size with another one; only those are read."""
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
