"""Settings: conversion, sources, and faults that name the flag."""

import json
from pathlib import Path
from typing import Any

import pytest

from semipose.config.settings import Duration, Origin, Settings, Size
from semipose.errors import UsageError


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5000", 5000, "updates"),
        (5000, 5000, "updates"),  # yaml reads a number
        ("30ep", 30, "epochs"),
        ("2h", 7200, "seconds"),
        ("1.5h", 5400, "seconds"),
        ("45m", 2700, "seconds"),
        ("45min", 2700, "seconds"),
        ("90s", 90, "seconds"),
    ],
)
def test_durations_are_updates_epochs_or_times(text: object, amount: float, unit: str) -> None:
    assert Duration.parse(text) == Duration(amount, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "0", "-5", "2 weeks", "1.5", "ep", "1e3", "nan", "0h"])
def test_other_durations_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="30ep"):
        Duration.parse(text)


def test_a_duration_becomes_updates() -> None:
    assert Duration.parse("30ep").updates(updates_per_epoch=7) == 210
    assert Duration.parse("2h").updates(updates_per_epoch=7, seconds_per_update=0.5) == 14400
    assert Duration.parse("50").updates(updates_per_epoch=7) == 50
    assert Duration.parse("1s").updates(updates_per_epoch=7, seconds_per_update=60) == 1


@pytest.mark.parametrize("value", ["256x192", [256, 192], (256, 192), "256X192"])
def test_sizes_are_height_first(value: object) -> None:
    assert Size.parse(value) == (256, 192)
    assert Size.parse(value).height == 256


@pytest.mark.parametrize("value", ["256", "256x", "axb", 256, [1, 2, 3], "1.5x2"])
def test_other_sizes_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="found"):
        Size.parse(value)


def test_every_setting_remembers_its_source() -> None:
    settings = Settings().chosen("yaml", "a.yaml:3", lr="1e-2", batch_size=8).chosen("data", "few labels", batch_size=4)
    assert settings.lr == 0.01
    assert settings.origin("lr") == Origin("yaml", "a.yaml:3")
    assert settings.origin("batch_size") == Origin("data", "few labels")
    assert settings.origin("seed").source == "default"


def test_the_record_is_json_and_reads_back() -> None:
    settings = Settings.from_values({"input_size": "96x64", "duration": "30ep", "weights": "a/b.safetensors"})
    record = json.loads(json.dumps(settings.record()))
    back = Settings.from_record(record)
    assert back == settings
    assert back.origins["duration"].source == "flag"
    assert back.origin("lr").source == "default"


def test_a_time_survives_the_record() -> None:
    settings = Settings.from_values({"duration": "1.25h"})
    assert Settings.from_record(settings.record()).duration == Duration(4500, "seconds")


def test_all_unusable_values_are_reported_at_once() -> None:
    values = {"lrr": 1, "batch_size": 1.5, "cache": "devic", "rotation": "nan", "seed": True, "flip_test": "maybe"}
    with pytest.raises(UsageError) as caught:
        Settings.from_values(values)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert "did you mean 'lr'" in lines[0]
    assert lines[1] == "--batch-size: expected a whole number, found 1.5"
    assert "did you mean 'device'" in lines[2]


def test_defaults_are_valid() -> None:
    assert Settings().faults() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_size", Size(100, 64)),  # the deepest map of five halvings would not fit
        ("input_size", Size(0, 32)),
        ("width", 0.0),
        ("head_channels", 0),
        ("batch_size", 0),
        ("unlabeled_batch_size", 0),
        ("lr", 0.0),
        ("lr", 100.0),
        ("warmup", 1.0),
        ("weight_decay", -1.0),
        ("clip", -1.0),
        ("rotation", 181.0),
        ("scale", 1.0),
        ("flip", 1.1),
        ("color_strength", 1.1),
        ("seed", -1),
        ("device", "gpu"),
        ("workers", -1),
        ("eval_every", 0),
        ("log_every", 0),
        ("weights", "nowhere.safetensors"),
        ("freeze", 2),  # without weights
    ],
)
def test_values_out_of_range_name_their_flag(name: str, value: Any) -> None:
    faults = Settings().chosen("flag", "", **{name: value}).faults()
    assert len(faults) == 1
    assert faults[0].startswith("--" + name.replace("_", "-"))


def test_a_strength_of_no_color_change_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--color-strength 0\.5: has no effect with --color none"):
        Settings(color="none", color_strength=0.5).validate()
    Settings(color="randaugment", color_strength=0.5).validate()


def test_channels_of_deconvolutions_that_hrnet_has_not_are_refused() -> None:
    settings = Settings().chosen("flag", "", network="hrnet_w32")
    assert settings.faults() == []
    assert "no deconvolutions; leave it out" in settings.chosen("flag", "", head_channels=256).faults()[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "multi_scale", "network": "hrnet_w32"}, "--head multi_scale: hrnet_w32 merges all scales itself"),
        ({"head": "multi_scale", "network": "cid"}, "--head multi_scale: cid has a head of its own"),
        ({"freeze": 5}, "--freeze 5: must be 0 to 4"),
        ({"freeze": 2}, "--freeze 2: would keep random weights; give --weights"),
        ({"freeze": 2, "network": "timm:resnet18"}, "does not know the stages of timm's networks"),
        ({"freeze": 2, "network": "cid", "backbone": "timm:resnet18"}, "does not know the stages of timm's networks"),
    ],
)
def test_heads_and_frozen_stages_that_a_network_cannot_have_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Settings().chosen("flag", "", **changes).validate()


def test_the_multi_scale_head_is_narrow_unless_chosen_otherwise(tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    settings = Settings().chosen("flag", "", head="multi_scale", freeze=2, weights=tmp_path / "w.pth").validate()
    assert settings.head_channels == 64
    assert settings.origin("head_channels") == Origin("default", "usual for --head multi_scale")
    assert settings.network_options() == settings.network_options("resnet50") == {"head": "multi_scale"}
    assert settings.network_options("hrnet_w32") == {}
    assert settings.chosen("flag", "", head_channels=32).validate().head_channels == 32
    assert Settings().validate().head_channels == 256


def test_all_faults_are_reported_at_once_and_yaml_ones_with_their_line() -> None:
    settings = Settings().chosen("yaml", "a.yaml:3", lr=-1).chosen("flag", "", flip=2, input_size="100x100")
    with pytest.raises(UsageError) as caught:
        settings.validate()
    text = str(caught.value)
    assert len(text.splitlines()) == 3
    assert "(a.yaml:3)" in text
    assert "96x96" in text


def test_every_setting_is_explained_in_one_sentence() -> None:
    for name in Settings.types():
        assert Settings.help(name).endswith("."), name
