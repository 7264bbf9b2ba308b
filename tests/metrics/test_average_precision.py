"""Weighing images must equal running the evaluator on them as often."""

import copy

import numpy as np
import pytest

from semipose.metrics.average_precision import METRICS, RECALLS, hits_needed, weighted_values
from semipose.metrics.oks import evaluate, read_matches, read_values, run_evaluator
from semipose.pose.skeleton import PRESETS

SIGMAS = PRESETS["coco_17"].sigmas


def matched(truth, results):
    evaluator = run_evaluator(truth, results, SIGMAS)
    return evaluator, read_matches(evaluator, [image["id"] for image in truth["images"]])


def repeated(truth, results, times):
    """The json with image n standing in it `times[n]` times, each under its own id."""
    images, people, found = [], [], []
    for image, count in zip(truth["images"], times, strict=True):
        for _ in range(count):
            new = len(images) + 1
            images.append({"id": new})
            people += [p | {"image_id": new} for p in truth["annotations"] if p["image_id"] == image["id"]]
            found += [r | {"image_id": new} for r in results if r["image_id"] == image["id"]]
    people = [copy.deepcopy(p) | {"id": n + 1} for n, p in enumerate(people)]
    return truth | {"images": images, "annotations": people}, found


def test_weights_of_1_give_the_evaluators_own_values(coco):
    for seed in range(30):
        truth, results = coco(seed, images=8)
        evaluator, matches = matched(truth, results)
        values = {name: v[0] for name, v in weighted_values(matches, np.ones((1, 8))).items()}
        assert {name: v for name, v in values.items() if not np.isnan(v)} == pytest.approx(
            read_values(evaluator), abs=1e-10
        ), seed


def test_any_weights_give_the_values_of_pictures_repeated_as_often(coco):
    for seed in range(30):
        truth, results = coco(seed, images=8)
        # Copies of a picture interleave results of equal scores, which one weighted picture cannot.
        results = [r | {"score": r["score"] + n * 1e-6} for n, r in enumerate(results)]
        _, matches = matched(truth, results)
        weights = np.random.default_rng(seed).multinomial(8, np.full(8, 1 / 8), size=3)
        found = weighted_values(matches, weights.astype(float))
        for row, times in enumerate(weights):
            expected = evaluate(*repeated(truth, results, times), SIGMAS)
            values = {name: v[row] for name, v in found.items() if not np.isnan(v[row])}
            assert values == pytest.approx(expected, abs=1e-10), (seed, times)


def test_only_the_20_best_scored_of_an_image_count(coco):
    truth, results = coco(5, images=1, most=60)
    assert len(results) > 25
    evaluator, matches = matched(truth, results)
    assert len(matches.image) == 20
    found = weighted_values(matches, np.ones((1, 1)))
    assert found["oks_ap"][0] == pytest.approx(read_values(evaluator)["oks_ap"], abs=1e-10)


def test_the_hits_needed_for_a_recall_are_those_of_a_search_in_floating_point():
    people = np.arange(1, 3001)
    searched = [np.searchsorted(np.arange(n + 1) / n, RECALLS) for n in people]
    np.testing.assert_array_equal(hits_needed(people.astype(float)), searched)


def test_a_size_without_people_gives_nan_and_no_detections_give_0(coco):
    truth, _ = coco(3)
    _, matches = matched(truth, [])
    values = weighted_values(matches, np.stack([np.ones(6), np.zeros(6)]))
    assert set(values) == set(METRICS)
    assert values["oks_ap"][0] == values["oks_ar"][0] == 0
    assert np.isnan([v[1] for v in values.values()]).all()
