"""Mix and UnMix of tiles: the reference tests M1 to M9, draws, and the usual grids."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semipose.errors import UsageError
from semipose.views.random_key import RandomKey
from semipose.views.tiles import Tiles, read_grid, usual_grid, usual_group

GRIDS = [(1, 1), (2, 2), (4, 4), (4, 3)]


def drawn(grid: tuple[int, int] = (4, 3), count: int = 8, group: int = 4, name: str = "t", seed: int = 0) -> Tiles:
    return Tiles.sampled(RandomKey(seed, 0, "unlabeled", count, count), name, grid, group)


def images(size: tuple[int, int] = (48, 24), count: int = 8, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_m1_there_and_back_is_bit_equal_and_so_is_the_gradient(
    grid: tuple[int, int], memory_format: torch.memory_format
) -> None:
    tiles = drawn(grid)
    for size in ((48, 24), (4, 12), (96, 12)):
        maps = images(size).contiguous(memory_format=memory_format).requires_grad_()
        back = tiles.inverse().mix(tiles.mix(maps))
        assert torch.equal(back, maps)
        weight = torch.rand_like(back)
        back.backward(weight)
        assert torch.equal(maps.grad, weight)
        assert tiles.mix(maps).is_contiguous(memory_format=torch.channels_last)
    assert tiles.mix(images().bfloat16()).dtype == torch.bfloat16


def test_m2_tiles_keep_their_place_and_move_as_the_rows_say() -> None:
    maps, tiles = images(), drawn()
    mixed = tiles.mix(maps)
    for group in (slice(0, 4), slice(4, 8)):
        assert torch.equal(mixed[group].sort(0).values, maps[group].sort(0).values)
    for image in range(8):
        for i in range(4):
            for j in range(3):
                place = (slice(None), slice(12 * i, 12 * i + 12), slice(8 * j, 8 * j + 8))
                assert torch.equal(mixed[image][place], maps[tiles.source[image, i, j]][place])


def test_m3_groups_of_one_change_nothing_and_one_tile_moves_whole_images() -> None:
    maps = images()
    assert torch.equal(drawn(group=1).mix(maps), maps)
    tiles = drawn((1, 1))
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.MaxPool2d(2)).eval()
    mixed = tiles.mix(maps)
    assert not torch.equal(mixed, maps)
    torch.testing.assert_close(tiles.inverse().mix(network(mixed)), network(maps))


def test_m4_what_looks_at_one_cell_is_not_disturbed_nor_are_batch_statistics() -> None:
    def layers() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.ReLU())

    maps, tiles, plain, under = images(), drawn(), layers(), layers()
    torch.testing.assert_close(tiles.inverse().mix(under(tiles.mix(maps))), plain(maps))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(under.state_dict()[name], value)


def test_m5_a_convolution_leaks_only_over_the_rims_of_tiles() -> None:
    # Whole numbers: their sums do not depend on the order.
    maps, tiles = images((256, 192), 4, 1).mul(255).round(), drawn((4, 4), 4)
    kernel = torch.ones(1, 1, 3, 3)
    changed = tiles.inverse().mix(F.conv2d(tiles.mix(maps), kernel, padding=1)) != F.conv2d(maps, kernel, padding=1)
    rim = torch.zeros(256, 192, dtype=torch.bool)
    for edge in range(1, 4):
        rim[64 * edge - 1 : 64 * edge + 1] = True
        rim[:, 48 * edge - 1 : 48 * edge + 1] = True
    assert not changed[..., ~rim].any()
    assert 0.03 < changed.float().mean() <= rim.float().mean() <= 2652 / (256 * 192) + 1e-9


def test_m6_two_exchanges_are_one_and_undone_at_once() -> None:
    maps, first, second, third = images(), drawn(name="1"), drawn(name="2"), drawn(name="3")
    total = first.then(second).then(third)
    mixed = third.mix(second.mix(first.mix(maps)))
    assert torch.equal(total.mix(maps), mixed)
    assert torch.equal(total.inverse().mix(mixed), maps)
    assert not torch.equal(second.then(first).mix(maps), first.then(second).mix(maps))


def test_m6_tiles_deeper_in_may_be_of_another_grid_when_undone_in_reverse_order() -> None:
    maps, first, second = images(), drawn((4, 3)), drawn((2, 2), name="2")
    mixed = second.mix(first.mix(maps))
    assert torch.equal(first.inverse().mix(second.inverse().mix(mixed)), maps)


def test_m7_a_quarter_of_the_tiles_stays_and_each_place_is_a_permutation_of_its_own() -> None:
    source = drawn(count=16_000).source
    assert abs((source == np.arange(16_000).reshape(-1, 1, 1)).mean() - 0.25) < 0.005
    groups = source.reshape(-1, 4, 4, 3) - np.arange(0, 16_000, 4).reshape(-1, 1, 1, 1)
    assert (np.sort(groups, 1) == np.arange(4).reshape(1, 4, 1, 1)).all()
    # Independent: two places of a group agree as often as chance has it.
    assert abs((groups[:, :, 0, 0] == groups[:, :, 2, 1]).mean() - 0.25) < 0.02


@pytest.mark.parametrize(("size", "grid"), [((8, 6), (4, 4)), ((48, 24), (5, 3)), ((2, 3), (4, 3))])
def test_m8_maps_that_do_not_divide_are_refused(size: tuple[int, int], grid: tuple[int, int]) -> None:
    said = rf"map of {size[0]}x{size[1]} cells does not divide into {grid[0]}x{grid[1]} tiles"
    with pytest.raises(ValueError, match=said):
        drawn(grid).mix(images(size))


@pytest.mark.parametrize(("count", "start"), [(6, 0), (4, 2)])
def test_m9_people_who_do_not_divide_into_groups_are_refused(count: int, start: int) -> None:
    with pytest.raises(ValueError, match=f"{count} people cannot be divided into groups of 4"):
        Tiles.sampled(RandomKey(0, 0, "unlabeled", count, 12, start), "t", (4, 3))


def test_m9_processes_and_parts_exchange_what_one_would_and_nothing_with_each_other() -> None:
    whole = drawn(count=12).source
    for start in (0, 4, 8):
        part = Tiles.sampled(RandomKey(0, 0, "unlabeled", 4, 12, start), "t", (4, 3)).source
        assert np.array_equal(part + start, whole[start : start + 4])
        assert part.min() == 0
        assert part.max() == 3


def test_maps_of_another_batch_are_not_mixed_by_these_tiles() -> None:
    with pytest.raises(RuntimeError):
        drawn().mix(images(count=16))


def test_images_before_the_mixed_ones_keep_their_tiles() -> None:
    maps, tiles = images(count=11), drawn()
    mixed = tiles.after(3).mix(maps)
    assert torch.equal(mixed[:3], maps[:3])
    assert torch.equal(mixed[3:], tiles.mix(maps[3:]))
    assert torch.equal(tiles.after(3).inverse().mix(mixed), maps)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((256, 192), (4, 3)),
        ((128, 96), (4, 3)),
        ((96, 96), (3, 3)),  # those that Pose-MUM names
        ((384, 288), (4, 3)),
        ((256, 256), (4, 4)),
        ((64, 64), (2, 2)),
        ((224, 160), (7, 5)),
        ((320, 448), (5, 2)),
        ((32, 64), (1, 2)),
    ],
)
def test_the_usual_grid_is_near_4_and_of_whole_cells(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert usual_grid(size, 32) == grid


def test_a_grid_is_read_from_its_text() -> None:
    assert read_grid("4x3") == read_grid(" 4X3 ") == (4, 3)
    for text in ("4", "0x3", "4x3x2", "4x-3", "-4x3", "axb", ""):
        with pytest.raises(UsageError, match="expected rows x columns, such as 4x3"):
            read_grid(text)


def test_the_usual_group_divides_the_people() -> None:
    assert [usual_group(people) for people in (32, 12, 6, 9, 2)] == [4, 4, 3, 3, 2]
    with pytest.raises(ValueError, match="7 people cannot be divided into groups of 4, 3 or 2"):
        usual_group(7)
