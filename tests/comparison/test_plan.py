"""Which jobs a comparison has."""

from typing import Any

import pytest

from semipose import methods
from semipose.comparison.plan import plan, read_amounts, read_methods
from semipose.errors import UsageError


def test_beside_the_methods_run_both_baselines_and_for_each_seed_the_bound() -> None:
    jobs = plan("mean_teacher", "5%,50", 2)
    assert [job.name for job in jobs if job.seed == 0] == [
        "5pct-seed0-baseline_weak",
        "5pct-seed0-baseline_strong",
        "5pct-seed0-mean_teacher",
        "50-seed0-baseline_weak",
        "50-seed0-baseline_strong",
        "50-seed0-mean_teacher",
        "all-seed0-bound",
    ]
    assert [job.seed for job in jobs] == [0] * 7 + [1] * 7
    strong = next(job for job in jobs if job.row == "baseline_strong")
    assert (strong.method, strong.options["augmentation"], strong.labeled) == ("supervised", "strong", 0.05)
    assert jobs[6].options == methods.typed_options("supervised", {})


def test_a_method_with_auxiliary_heads_is_compared_with_labels_alone_that_have_them() -> None:
    one, other = "mean_teacher_levels", "teacher_reviewer_student[levels=0.2 0.3]"
    rows = {job.row: job.options for job in plan(f"mean_teacher,{one},{other}", "5%", 1) if job.amount == "5pct"}
    assert list(rows) == [
        "baseline_weak",
        "baseline_strong",
        "baseline_weak[levels=0.1,0.3]",
        "baseline_strong[levels=0.1,0.3]",
        "baseline_weak[levels=0.2,0.3]",
        "baseline_strong[levels=0.2,0.3]",
        "mean_teacher",
        one,
        other.replace(" ", "."),
    ]
    assert rows["baseline_strong[levels=0.2,0.3]"] == rows["baseline_strong"] | {"levels": (0.2, 0.3)}
    without = plan("mean_teacher_levels[levels=0 0]", "5%", 1)
    assert [job.row for job in without if job.row.startswith("baseline")] == ["baseline_weak", "baseline_strong"]


def test_all_means_every_method_but_the_baselines() -> None:
    assert set(read_methods("all")) == set(methods.methods_for("resnet18")) - {"supervised"}
    assert set(read_methods("all", "dekr")) == {"instance_pseudo_label", "mean_teacher", "pseudo_label"}


def test_options_stand_in_brackets_and_name_the_row() -> None:
    rows = read_methods("mean_teacher[decay=0.9,joined=true], mean_teacher,tests.contract.third_party:TwoViews")
    assert rows["mean_teacher[decay=0.9,joined=true]"][1]["decay"] == 0.9
    assert rows["mean_teacher[decay=0.9,joined=true]"][1]["joined"] is True
    assert rows["mean_teacher"][1]["decay"] is None
    assert rows["tests.contract.third_party.TwoViews"][0] == "tests.contract.third_party:TwoViews"
    assert read_methods(["mean_teacher[ramp=0.5]"])["mean_teacher[ramp=0.5]"][1]["ramp"] == 0.5


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("mean_techer", "did you mean 'mean_teacher'"),
        ("mean_teacher[decya=0.9]", "did you mean 'decay'"),
        ("mean_teacher[decay]", r"pose_cons\[ramp=0.1\]"),
        ("mean_teacher,", "names such as"),
        ("supervised", "as the baseline; leave it out"),
    ],
)
def test_methods_that_are_none_are_refused(which: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_methods(which)


@pytest.mark.parametrize(
    ("labeled", "amounts"),
    [
        ("5%,10%", {"5pct": 0.05, "10pct": 0.1}),
        ("50, 100", {"50": 50, "100": 100}),
        (["0.5%"], {"0.5pct": 0.005}),
        ("10%,10%", {"10pct": 0.1}),
    ],
)
def test_amounts_are_shares_or_numbers(labeled: Any, amounts: dict[str, float]) -> None:
    assert read_amounts(labeled) == amounts


@pytest.mark.parametrize("labeled", ["100%", "0%", "0", "0.1", "-5", "many", ""])
def test_other_amounts_are_refused(labeled: str) -> None:
    with pytest.raises(UsageError, match="shares below 100 %"):
        read_amounts(labeled)
