import numpy as np
import pytest

from semipose.data.people import Images, People
from semipose.errors import DataError
from tests.data.test_splits import crowd


def test_selecting_people_keeps_only_their_images() -> None:
    some = crowd(6, 3).select(np.array([1, 4]))
    assert some.images.files == ("/1.png",)
    assert some.image_index.tolist() == [0, 0]
    assert some.poses.image_ids.tolist() == [2, 2]
    everybody = crowd(6, 3)
    assert everybody.select(slice(None)).images.files == everybody.images.files


def test_joined_people_get_distinct_ids() -> None:
    first, second = crowd(2, 2), crowd(3, 3)
    both = People.concatenate([first, second])
    assert both.images.ids.tolist() == [1, 2, 3, 4, 5]
    assert both.poses.image_ids.tolist() == [1, 2, 3, 4, 5]
    assert len(set(both.poses.ids.tolist())) == 5
    assert both.images.files[both.image_index[2]] == second.images.files[0]
    second.images.ids[:] += 50
    assert People.concatenate([first, second]).images.ids.tolist() == [1, 2, 51, 52, 53]


def test_parts_that_do_not_fit_are_refused() -> None:
    people = crowd(2, 2)
    with pytest.raises(DataError, match="points outside the 2 images"):
        People(people.images, np.array([0, 2]), people.poses, None, "", "")
    with pytest.raises(DataError, match="image_index has shape"):
        People(people.images, np.array([0]), people.poses, None, "", "")
    with pytest.raises(DataError, match="do not fit 1 files"):
        Images(("a",), np.arange(2), np.zeros((1, 2)), ({},))
