"""Which network a run hands out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import semipose as sp
from semipose.errors import UsageError
from semipose.formats.load import Data

TINY: dict[str, Any] = {
    "method": "pose_dual",
    "network": "mobilenet_v1",
    "width": 0.25,
    "head_channels": 8,
    "input_size": "64x64",
    "batch_size": 4,
    "duration": 2,
    "device": "cpu",
}


@pytest.mark.parametrize(("deploy", "expected"), [(None, "first"), ("average", "average")])
def test_the_network_to_deploy_is_the_methods_or_the_users_choice(
    deploy: str | None, expected: str, data: Data, pictures: SimpleNamespace, tmp_path: Path
) -> None:
    run = sp.train(data, out=tmp_path / "run", deploy=deploy, **TINY)
    assert run.metrics is not None
    assert run.metrics.deployed.network == expected
    assert set(run.metrics.val or ()) == {"first", "second", "average"}
    score = sp.evaluate(run, pictures.val, pictures.val_images)
    assert run.metrics.deployed_scores is not None
    assert score.values["pck@0.1"] == pytest.approx(run.metrics.deployed_scores.best.values["pck@0.1"])


def test_a_network_that_the_method_does_not_have_is_refused(data: Data, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="first, second, average"):
        sp.train(data, out=tmp_path / "run", deploy="teacher", **TINY)


def test_an_option_of_a_third_party_method_is_no_option_of_its_baseline(data: Data, tmp_path: Path) -> None:
    settings = TINY | {"method": "tests.contract.third_party:ThreeLevels"}
    options = {"levels": (0.5, 0.2, 0.1)}
    run = sp.train(data, out=tmp_path / "run", baseline=True, method_settings=options, **settings)
    assert run.metrics is not None
    assert run.metrics.against_baseline is not None
    assert sp.Run(run.folder / "baseline" / "weak").record.method_settings["levels"] == [0.0, 0.0]
    assert sp.resume(run.folder).metrics == run.metrics


def test_a_baseline_that_cannot_be_trained_is_refused_before_training(data: Data, tmp_path: Path) -> None:
    settings = TINY | {"method": "tests.contract.third_party:WrongBaseline"}
    with pytest.raises(UsageError, match=r"(?s)--method.levels: expected 2 values.*declares baseline_options levels"):
        sp.train(data, out=tmp_path / "run", baseline=True, **settings)
    assert not (tmp_path / "run").exists()
