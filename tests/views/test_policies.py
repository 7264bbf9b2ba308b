"""RandAugment and TrivialAugment: every operation against its definition, one image at a time, in numpy and Pillow."""

from collections import Counter

import numpy as np
import pytest
import torch

from semipose.views import policies
from semipose.views.policies import LUMA, Change, Policy, apply, augment, choices, operations
from semipose.views.random_key import RandomKey

NAMES = list(operations(1.0, 1))
LEVELS = (0.1, 1 / 3, 2 / 3, 1.0)
WITHOUT_PLACE = [name for name in NAMES if name != "cutout"]


def pictures() -> np.ndarray:
    """(4, 24, 20, 3) uint8: soft colors in another range for each channel, noise, two levels, and one color."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:24, :20] / 24
    soft = np.stack([np.sin(5 * x + 2 * y), np.cos(4 * y), 0.5 + x * y], -1) + generator.normal(0, 0.1, (24, 20, 3))
    noise = generator.integers(0, 256, (24, 20, 3))
    two = np.where(generator.random((24, 20, 1)) < 0.3, [10, 120, 200], [12, 240, 199])
    one = np.full((24, 20, 3), [3, 130, 250])
    return np.stack([60 + 40 * soft, noise, two, one]).astype(np.uint8)


def run(images: np.ndarray, changes: list[list[Change]], places: np.ndarray | None = None) -> torch.Tensor:
    """The images with `changes` (one list for each), as levels (B, 3, H, W)."""
    image = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    numbers = np.array(changes, np.float32)
    return apply(image, numbers, np.zeros((*numbers.shape[:2], 2)) if places is None else places) * 255


def blend(base: np.ndarray | float, image: np.ndarray, factor: float) -> np.ndarray:
    return np.floor(np.clip(base + factor * (image - base), 0, 255) + 1e-4)


def definition(name: str, level: float, sign: int, image: np.ndarray) -> np.ndarray:
    """What operation `name` makes of one `image` (H, W, 3) of whole levels, written for reading."""
    v, factor = image.astype(np.float64), 1 + sign * 0.9 * level
    gray = v @ np.array(LUMA)
    if name in ("autocontrast", "equalize"):
        channel = autocontrast if name == "autocontrast" else equalize
        return np.stack([channel(image[..., c]) for c in range(3)], -1)
    if name == "sharpness":
        smooth = v.copy()
        for row in range(1, v.shape[0] - 1):
            for column in range(1, v.shape[1] - 1):
                around = v[row - 1 : row + 2, column - 1 : column + 2].sum((0, 1))
                smooth[row, column] = (around + 4 * v[row, column]) / 13
        return blend(smooth, v, factor)
    return {
        "invert": lambda: 255 - v,
        "posterize": lambda: v - v % 2 ** (8 - max(2, 6 - int(4 * level))),
        "solarize": lambda: np.where(v < 256 - 256 * level, v, 255 - v),
        "solarize_add": lambda: (lambda w: np.where(w < 128, w, 255 - w))(np.floor(np.clip(v + 110 * level, 0, 255))),
        "color": lambda: blend(gray[..., None], v, factor),
        "contrast": lambda: blend(gray.mean(), v, factor),
        "brightness": lambda: blend(0.0, v, factor),
    }[name]()


def autocontrast(channel: np.ndarray) -> np.ndarray:
    low, high = int(channel.min()), int(channel.max())
    return channel if high == low else np.floor((channel.astype(np.float64) - low) * 255 / (high - low) + 1e-4)


def equalize(channel: np.ndarray) -> np.ndarray:
    counts = np.bincount(channel.ravel(), minlength=256)
    step = (counts.sum() - counts[channel.max()]) // 255
    if step == 0:
        return channel
    table = [min(255, (step // 2 + counts[:level].sum()) // step) for level in range(256)]
    return np.array(table)[channel]


@pytest.mark.parametrize("name", WITHOUT_PLACE)
def test_each_operation_is_its_definition(name: str) -> None:
    images = pictures()
    for level in LEVELS:
        for sign in (-1, 1):
            found = run(images, [[operations(level, sign)[name]]] * 4).permute(0, 2, 3, 1).numpy()
            expected = np.stack([definition(name, level, sign, image) for image in images])
            # Saturation and sharpness stay between levels, where the definition rounds down.
            between = name in ("color", "sharpness")
            assert (found - expected).max() < (1.001 if between else 0.01), (name, level, sign)
            assert (found - expected).min() > -0.01, (name, level, sign)


@pytest.mark.parametrize("name", WITHOUT_PLACE)
def test_each_operation_is_pillows(name: str) -> None:
    """Those that only exchange levels are the same; the others differ by Pillow's rounding."""
    image_ops, enhance = pytest.importorskip("PIL.ImageOps"), pytest.importorskip("PIL.ImageEnhance")
    from PIL import Image

    for level in LEVELS:
        for sign in (-1, 1):
            factor, bits = 1 + sign * 0.9 * level, max(2, 6 - int(4 * level))
            pillow = {
                "autocontrast": image_ops.autocontrast,
                "equalize": image_ops.equalize,
                "invert": image_ops.invert,
                "posterize": lambda image, bits=bits: image_ops.posterize(image, bits),
                "solarize": lambda image, level=level: image_ops.solarize(image, 256 - 256 * level),
                "solarize_add": lambda image, level=level: image_ops.solarize(
                    Image.fromarray(np.clip(np.asarray(image) + 110 * level, 0, 255).astype(np.uint8)), 128
                ),
                "color": lambda image, factor=factor: enhance.Color(image).enhance(factor),
                "contrast": lambda image, factor=factor: enhance.Contrast(image).enhance(factor),
                "brightness": lambda image, factor=factor: enhance.Brightness(image).enhance(factor),
                "sharpness": lambda image, factor=factor: enhance.Sharpness(image).enhance(factor),
            }[name]
            images = pictures()
            found = run(images, [[operations(level, sign)[name]]] * 4).permute(0, 2, 3, 1).numpy()
            expected = np.stack([np.asarray(pillow(Image.fromarray(image))) for image in images]).astype(np.float32)
            rounds = name in ("color", "sharpness", "contrast", "brightness")
            assert np.abs(found - expected).max() < (1.5 if rounds else 0.01), (name, level, sign)


def test_a_hole_is_cut_where_and_as_large_as_drawn() -> None:
    places = np.array([[[0.5, 0.25]], [[0.0, 1.0]]])
    images = np.zeros((2, 256, 192, 3), np.uint8)
    covered = run(images, [[operations(1.0, 1)["cutout"]]] * 2, places).sum(1) > 0
    assert covered[0].nonzero().float().mean(0).tolist() == pytest.approx([63.5, 95.5], abs=1)
    assert covered[0].sum() == pytest.approx(80 * 80, rel=0.03)
    assert covered[1].sum() == pytest.approx(40 * 40, rel=0.06)
    assert covered[1, -1, 0]


def test_two_operations_are_the_second_after_the_first() -> None:
    """All pairs: two tables, a table before and after what needs the pixels, and two of those."""
    pairs = [(first, second) for first in NAMES for second in NAMES]
    images = np.repeat(pictures()[:1], len(pairs), 0)
    here, places = operations(1 / 3, 1), np.full((len(pairs), 1, 2), 0.4)
    both = run(images, [[here[first], here[second]] for first, second in pairs], places.repeat(2, 1))
    once = run(images, [[here[first]] for first, _ in pairs], places)
    image = once / 255
    twice = apply(image, np.array([[here[second]] for _, second in pairs], np.float32), places) * 255
    torch.testing.assert_close(both, twice, atol=1e-3, rtol=0)
    order = [pairs.index(("invert", "brightness")), pairs.index(("brightness", "invert"))]
    assert (both[order[0]] - both[order[1]]).abs().mean() > 1


def test_levels_between_two_are_rounded_to_the_nearer() -> None:
    """Views are sampled between pixels; tables are not."""
    image = (torch.rand(1, 3, 8, 8) * 255).round()
    near = image + 0.8 * (torch.rand(1, 3, 8, 8) - 0.5)
    found = apply(near.clamp(0, 255) / 255, np.array([[Change()]], np.float32), np.zeros((1, 1, 2))) * 255
    torch.testing.assert_close(found, image, atol=1e-3, rtol=0)


def test_operations_of_one_image_leave_the_others_alone() -> None:
    images, rest = np.repeat(pictures()[:1], len(NAMES) + 1, 0), Change()
    found = run(images, [[operations(0.8, -1)[name]] for name in NAMES] + [[rest]])
    torch.testing.assert_close(found[-1], torch.from_numpy(images[0]).permute(2, 0, 1).float(), atol=1e-3, rtol=0)
    for row, name in enumerate(NAMES):
        alone = run(images[:1], [[operations(0.8, -1)[name]]])[0]
        torch.testing.assert_close(found[row], alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("policy", "names", "rows"), [("randaugment", 11, 2), ("trivialaugment", 9, 62)])
def test_every_operation_is_as_likely(policy: Policy, names: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = choices(policy, 0.5)
    assert len(table) == names * rows
    kinds = {tuple((row != np.array(Change(), np.float32)).tolist()) for row in table}
    expected = {
        tuple(np.not_equal(change, Change()).tolist())
        for name, change in operations(0.5, 1).items()
        if policy == "randaugment" or name not in ("invert", "solarize_add", "cutout")
    }
    assert kinds - {(False,) * len(Change())} == expected
    seen: Counter[bytes] = Counter()
    monkeypatch.setattr(
        policies,
        "apply",
        lambda image, changes, *rest: seen.update(row.tobytes() for row in changes.reshape(-1, len(Change()))),
    )
    augment(torch.zeros(1), RandomKey(0, 0, "unlabeled", 20000, 20000), "a", policy, 0.5)
    assert len(seen) == len(np.unique(table, axis=0))
    mean = 20000 * policies.OPERATIONS[policy] / len(table)
    weights = Counter(row.tobytes() for row in table)
    assert all(abs(seen[key] - mean * weight) < 5 * (mean * weight) ** 0.5 for key, weight in weights.items())


def test_strength_bounds_what_is_drawn() -> None:
    weak, strong = choices("trivialaugment", 0.3), choices("trivialaugment", 1.0)
    column = Change._fields.index("saturation")
    assert np.abs(weak[:, column] - 1).max() == pytest.approx(0.27)
    assert np.abs(strong[:, column] - 1).max() == pytest.approx(0.9)
    assert np.unique(choices("randaugment", 0.3)[:, column]).tolist() == pytest.approx([0.73, 1.0, 1.27])


@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment"])
def test_images_stay_in_range_and_are_not_changed_in_place(policy: Policy) -> None:
    image = torch.rand(64, 3, 24, 16)
    before = image.clone()
    changed = augment(image, RandomKey(0, 0, "unlabeled", 64, 64), "a", policy, 1.0)
    assert torch.equal(image, before)
    assert changed.shape == image.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed != image).flatten(1).any(1).float().mean() > 0.8
