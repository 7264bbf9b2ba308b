"""Bootstrap over images: what an interval covers, and when a difference counts."""

import json

import numpy as np
import pytest

from semipose.errors import DataError, UsageError
from semipose.metrics.bootstrap import NUMBERS_PER_BLOCK, bootstrap, resample_weights
from semipose.metrics.intervals import Difference, difference, mean_difference
from semipose.metrics.score import Score, score
from semipose.pose.skeleton import PRESETS

PERSON = PRESETS["coco_17"]


@pytest.fixture
def scores(people):
    """Scores of the same people with the given noises in pixels."""

    def build(*noises, seeds=None, **made):
        seeds = seeds or range(len(noises))
        pairs = [people(noise=noise, seed=seed, **made) for noise, seed in zip(noises, seeds, strict=True)]
        return [score(*pair, PERSON, resamples=0) for pair in pairs]

    return build


def test_each_resample_draws_as_many_images_as_there_are_and_blocks_do_not_matter():
    whole = np.concatenate(list(resample_weights(7, resamples=50, seed=3, width=7)))
    pieces = list(resample_weights(7, resamples=50, seed=3, width=NUMBERS_PER_BLOCK // 4))
    assert len(pieces) == 13
    np.testing.assert_array_equal(whole, np.concatenate(pieces))
    np.testing.assert_array_equal(whole.sum(1), 7)


def test_the_interval_of_a_mean_has_the_width_that_statistics_predicts():
    values = np.random.default_rng(0).normal(size=400)
    spans = bootstrap(lambda w: {"mean": w @ values / 400}, 400, resamples=4000, seed=0, width=400)
    expected = values.mean() + np.array([-1.96, 1.96]) * values.std() / 20
    assert spans["mean"] == pytest.approx(tuple(expected), abs=0.01)


def test_people_of_one_image_move_together(people):
    """Ten copies of each person in its image tell no more than one: the interval must not shrink."""
    predicted, truth = people(40, images=40)
    alone = score(predicted, truth, PERSON)
    rows = np.repeat(np.arange(40), 10)
    crowded = score(predicted[rows], truth[rows], PERSON)
    for name in ("pck@0.1", "pixel_error", "pck_torso@0.2"):
        assert crowded.intervals[name] == pytest.approx(alone.intervals[name]), name


def test_a_resample_in_which_a_value_cannot_be_measured_does_not_count_for_it():
    def estimate(weights):
        return {"some": np.where(weights[:, 0] > 0, 5.0, np.nan), "never": np.full(len(weights), np.nan)}

    assert bootstrap(estimate, 4, resamples=100, seed=0, width=4) == {"some": (5.0, 5.0)}


def test_a_clear_gain_helped_and_the_reverse_hurt(scores):
    better, worse = scores(4, 12)
    for metric, sign in (("pck@0.05", 1), ("oks_ap", 1), ("pck_torso@0.1", 1), ("pixel_error", -1)):
        gain, loss = difference(better, worse, metric), difference(worse, better, metric)
        assert (gain.helped, loss.helped) == ("yes", "no"), metric
        assert gain.value == pytest.approx(better.values[metric] - worse.values[metric])
        assert gain.value == pytest.approx(-loss.value)
        assert sign * gain.value > 0
        assert gain.low < gain.value < gain.high
        assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))


def test_a_difference_within_chance_is_unclear(scores):
    found = difference(*scores(8, 8), "pck@0.1")
    assert found.helped == "unclear"
    assert found.low < 0 < found.high


def test_pairing_sees_a_small_gain_that_separate_intervals_hide(people):
    """Both models fail on the same hard people; one is a little better on each. Only a paired bootstrap
    tells.
    """
    predicted, truth = people(200, images=200, noise=0)
    hard = np.random.default_rng(1).uniform(0, 60, (200, 1, 1)).astype(np.float32)
    truth.visible[:] = 2
    worse, better = predicted[:], predicted[:]
    worse.keypoints, better.keypoints = truth.keypoints + hard, truth.keypoints + 0.97 * hard
    a, b = score(better, truth, PERSON), score(worse, truth, PERSON)
    assert a.intervals["pixel_error"][1] > b.intervals["pixel_error"][0]
    found = difference(a, b, "pixel_error")
    assert found.helped == "yes"
    assert found.high - found.low < 0.2 * (a.intervals["pixel_error"][1] - a.intervals["pixel_error"][0])


def test_a_score_differs_from_itself_by_exactly_nothing(scores):
    (one,) = scores(8)
    for metric in one.values:
        found = difference(one, one, metric, resamples=100)
        assert (found.value, found.low, found.high, found.helped) == (0, 0, 0, "unclear"), metric


def test_every_labeled_keypoint_has_its_own_difference_and_ap_has_none(scores):
    a, b = scores(4, 12)
    found = difference(a, b, "pck@0.05")
    assert set(found.per_keypoint) == set(PERSON.keypoints)
    for name, (value, low, high) in found.per_keypoint.items():
        assert value == pytest.approx(a.per_keypoint["pck@0.05"][name] - b.per_keypoint["pck@0.05"][name])
        assert low <= value <= high
    assert difference(a, b, "oks_ap").per_keypoint == {}


def test_the_sentence_is_the_answer(scores):
    better, worse = scores(4, 12)
    found = difference(better, worse, "pck@0.1")
    span = f"{found.low:+.1f} to {found.high:+.1f}"
    assert found.text == (
        f"pck@0.1 {found.value:+.1f} (95 % interval {span}, bootstrap over 40 images): the unlabeled images helped."
    )
    assert difference(worse, better, "oks_ap").text.endswith("): the unlabeled images hurt.")
    assert difference(better, better, "pck@0.1").text == (
        "pck@0.1 +0.0 (95 % interval +0.0 to +0.0, bootstrap over 40 images): "
        "whether the unlabeled images helped is unclear."
    )
    assert " px (95 %" in difference(better, worse, "pixel_error").text
    assert difference(better, worse, "oks_ap", cause="the new labels").text.endswith("the new labels helped.")


def test_too_few_images_give_no_verdict_however_clear_they_look(scores):
    found = difference(*scores(1, 30, people=5, images=5), "pck@0.1")
    assert found.low > 0
    assert found.helped == "unclear"
    assert found.text.endswith("bootstrap over 5 images): too few images to say whether the unlabeled images helped.")
    assert difference(*scores(1, 30, people=1, images=1), "pck@0.1").helped == "unclear"


def test_scores_of_different_people_or_labels_are_refused(people):
    predicted, truth = people()
    whole = score(predicted, truth, PERSON, resamples=0)
    part = score(predicted[1:], truth[1:], PERSON, resamples=0)
    with pytest.raises(DataError, match="60 people in 40 images, the second of 59 people"):
        difference(whole, part, "pck@0.1")
    moved = truth[:]
    moved.boxes = truth.boxes + 1
    other = score(predicted, moved, PERSON, resamples=0)
    with pytest.raises(DataError, match="other ids, boxes, labels or sigmas"):
        difference(whole, other, "pck@0.1")


def test_the_mean_of_several_pairs_draws_the_same_images_for_all(scores):
    good, bad = scores(4, 30)
    once = difference(good, bad, "pck@0.2")
    assert mean_difference([(good, bad), (good, bad)], "pck@0.2") == once
    half = mean_difference([(good, bad), (good, good)], "pck@0.2")
    assert (half.value, half.low) == pytest.approx((once.value / 2, once.low / 2))
    # Drawn apart for each pair, a gain and the same loss would not cancel in every resample.
    even = mean_difference([(good, bad), (bad, good)], "pck@0.2")
    assert (even.value, even.low, even.high) == pytest.approx((0, 0, 0))
    assert even.helped == "unclear"


def test_a_later_pair_of_other_people_is_refused(scores):
    good, bad = scores(4, 30)
    (odd,) = scores(4, truth_seed=8)
    with pytest.raises(DataError, match="A paired comparison needs the same people"):
        mean_difference([(good, bad), (odd, odd)], "pck@0.2")


def test_a_missing_metric_and_a_score_from_a_file_are_refused(scores):
    a, b = scores(4, 12)
    with pytest.raises(UsageError, match=r"the first score has no metric 'pck@0\.3'; its metrics are pck@0\.05"):
        difference(a, b, "pck@0.3")
    with pytest.raises(UsageError, match="Evaluate both models again"):
        difference(a, Score.from_dict(b.to_dict()), "pck@0.1")
    with pytest.raises(UsageError, match="resamples is 0"):
        difference(a, b, "pck@0.1", resamples=0)


def test_a_difference_survives_json(scores):
    found = difference(*scores(4, 12), "pck@0.1")
    assert Difference.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
