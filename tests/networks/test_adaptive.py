"""Adaptive convolution against ordinary convolution, and against a loop over pixels and taps."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.networks import adaptive
from semipose.networks.adaptive import AdaptiveBlock, adaptive_convolution

OPERATOR = adaptive._operator
DOUBLE = torch.float64
IDENTITY = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=DOUBLE)


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own sampling, also where torchvision has an operator."""
    monkeypatch.setattr(adaptive, "_operator", lambda device: None)


def a_torchvision(deform_conv2d: Callable[..., Tensor]) -> Callable[[str], SimpleNamespace]:
    return lambda name: SimpleNamespace(deform_conv2d=deform_conv2d)


def as_torchvision(x: Tensor, offset: Tensor, weight: Tensor, padding: int) -> Tensor:
    """A stand-in of torchvision's operator: offsets (B, G * 9 * 2, H, W), y before x, added to the regular taps."""
    groups, taps = x.shape[1] // weight.shape[1], adaptive._taps(x)[:, :, None, None]
    apart = offset.unflatten(1, (groups, 9, 2)).transpose(2, 3) + taps
    # A whose columns are the displacements of two taps cannot say it for all nine: sample each tap by its own shift.
    total = torch.zeros(())
    for tap in range(9):
        shift = apart[:, :, :, tap].flatten(1, 2)
        alone = torch.zeros_like(weight)
        alone[..., 1, 1] = weight[..., tap // 3, tap % 3]
        total = total + adaptive._sampled(x, alone, torch.zeros_like(shift).repeat(1, 2, 1, 1), shift)
    return total


def test_torchvisions_operator_is_used_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [part.float() for part in made()]
    expected = adaptive_convolution(*parts)
    used: list[int] = []
    monkeypatch.setattr(adaptive, "load_torchvision", lambda: None)
    monkeypatch.setattr(
        adaptive, "import_module", a_torchvision(lambda *a, **k: used.append(1) or as_torchvision(*a, **k))
    )
    monkeypatch.setattr(adaptive, "_operator", OPERATOR.__wrapped__)
    torch.testing.assert_close(adaptive_convolution(*parts), expected)
    assert len(used) == 2  # the trial, and this


def fails() -> None:
    raise RuntimeError("operator torchvision::nms does not exist")


@pytest.mark.parametrize("fault", ["import", "call", "wrong"])
def test_a_torchvision_that_does_not_work_is_not_used(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    answers = {"call": lambda *_, **__: fails(), "wrong": lambda x, *_, **__: x, "import": as_torchvision}
    monkeypatch.setattr(adaptive, "load_torchvision", fails if fault == "import" else lambda: None)
    monkeypatch.setattr(adaptive, "import_module", a_torchvision(answers[fault]))
    assert OPERATOR.__wrapped__(torch.device("cpu")) is None


def made(groups: int = 3, channels: int = 2, size: tuple[int, int] = (5, 7), batch: int = 2) -> tuple[Tensor, ...]:
    """x, weight, A and t of double precision, random."""
    generator = torch.Generator().manual_seed(groups)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=DOUBLE)

    return (
        random(batch, groups * channels, *size),
        random(groups * channels, channels, 3, 3),
        random(batch, 4 * groups, *size),
        2 * random(batch, 2 * groups, *size),
    )


def uniform(matrix: Tensor, groups: int = 3, size: tuple[int, int] = (5, 7)) -> tuple[Tensor, Tensor]:
    """The same A for every pixel, and no shift."""
    return matrix.repeat(groups)[None, :, None, None].expand(2, -1, *size), torch.zeros(
        2, 2 * groups, *size, dtype=DOUBLE
    )


def at(plane: Tensor, y: float, x: float) -> float:
    """Bilinear, zeros beyond the border."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * float(plane[row, column])
    return total


def by_loop(x: Tensor, weight: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    groups, (outputs, channels) = shift.shape[1] // 2, weight.shape[:2]
    each, found = outputs // groups, torch.zeros(len(x), outputs, *x.shape[2:], dtype=DOUBLE)
    for b, o, row, column in torch.cartesian_prod(*(torch.arange(n) for n in found.shape)).tolist():
        group = o // each
        a = matrix[b, 4 * group : 4 * group + 4, row, column].reshape(2, 2).tolist()
        ty, tx = shift[b, 2 * group : 2 * group + 2, row, column].tolist()
        for c in range(channels):
            for i in range(3):
                for j in range(3):
                    y = row + a[0][0] * (i - 1) + a[0][1] * (j - 1) + ty
                    across = column + a[1][0] * (i - 1) + a[1][1] * (j - 1) + tx
                    found[b, o, row, column] += weight[o, c, i, j] * at(x[b, group * channels + c], y, across)
    return found


def test_with_the_identity_it_is_an_ordinary_convolution() -> None:
    x, weight, *_ = made()
    expected = F.conv2d(x, weight, padding=1, groups=3)
    torch.testing.assert_close(adaptive_convolution(x, weight, *uniform(IDENTITY)), expected, rtol=0, atol=1e-12)


def test_with_zeros_all_taps_read_the_center() -> None:
    x, weight, *_ = made()
    expected = F.conv2d(x, weight.sum((2, 3), keepdim=True), groups=3)
    found = adaptive_convolution(x, weight, *uniform(0 * IDENTITY))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_it_equals_a_loop_over_pixels_and_taps() -> None:
    parts = made(groups=2, size=(4, 5))
    torch.testing.assert_close(adaptive_convolution(*parts), by_loop(*parts), rtol=0, atol=1e-10)


def test_gradients_are_right() -> None:
    parts = [part.requires_grad_() for part in made(groups=1, size=(4, 4), batch=1)]
    assert torch.autograd.gradcheck(adaptive_convolution, parts)


@pytest.mark.parametrize(("kept", "pieces"), [(1, 3), (2 * 9 * 2 * 2 * 5 * 7, 2)])
def test_few_groups_at_a_time_give_the_same_and_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch, kept: int, pieces: int
) -> None:
    parts = [part.requires_grad_() for part in made()]
    expected = adaptive_convolution(*parts)
    gradients = torch.autograd.grad(expected.square().sum(), parts)
    monkeypatch.setattr(adaptive, "_MAX_SAMPLES", kept)
    calls: list[int] = []
    sampled = adaptive._sampled
    monkeypatch.setattr(adaptive, "_sampled", lambda *piece: calls.append(1) or sampled(*piece))
    found = adaptive_convolution(*parts)
    assert len(calls) == pieces
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(adaptive_convolution(*parts), expected)
    assert len(calls) == 2 * pieces
    for one, other in zip(torch.autograd.grad(found.square().sum(), parts), gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_places_stay_exact_under_autocast() -> None:
    """A position in bfloat16 beyond 128 would be off by a pixel: here it would read a pixel's neighbor."""
    x = torch.zeros(1, 1, 1, 300, dtype=torch.bfloat16)
    x[..., ::2] = 1
    weight = torch.zeros(1, 1, 3, 3)
    weight[..., 1, 1] = 1
    still = torch.zeros(1, 6, 1, 300, dtype=torch.bfloat16).split((4, 2), 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = adaptive_convolution(x, weight, *still)
    torch.testing.assert_close(found, x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("identity", [False, True])
def test_a_block_starts_at_the_center_or_as_an_ordinary_convolution(identity: bool) -> None:
    block, x = AdaptiveBlock(3, 4).eval(), torch.rand(2, 12, 6, 6)
    block.initialize(identity)
    weight = block.adapt_conv.weight
    if not identity:
        weight = F.pad(weight.sum((2, 3), keepdim=True), (1, 1, 1, 1))
    expected = F.relu(block.bn(F.conv2d(x, weight, padding=1, groups=4)) + x)
    torch.testing.assert_close(block(x), expected)


def test_without_adaptation_it_is_an_ordinary_block() -> None:
    block, x = AdaptiveBlock(3, 4, adaptive=False).eval(), torch.rand(2, 12, 6, 6)
    assert {name.partition(".")[0] for name, _ in block.named_parameters()} == {"adapt_conv", "bn"}
    torch.testing.assert_close(block(x), F.relu(block.bn(block.adapt_conv(x)) + x))
