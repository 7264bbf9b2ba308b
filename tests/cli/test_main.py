"""The command line: flags, yaml, errors and exit codes; what each command hands on to its task."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import semipose
from semipose import methods
from semipose.cli.flags import parse_check, parse_compare, parse_train
from semipose.cli.main import COMMANDS, main
from semipose.config.settings import Settings
from semipose.config.yaml_file import Config
from semipose.errors import DataError, UsageError

BASE = ["labels.json", "--images", "img", "--unlabeled", "frames"]


def yaml_file(folder: Path, text: str) -> str:
    path = folder / "config.yaml"
    path.write_text(text)
    return str(path)


# Flags


def test_flags_of_the_issue_are_read() -> None:
    call = parse_train(
        [
            *["labels.json", "--images", "img", "--unlabeled", "a", "--unlabeled", "b/*.jpg", "--val", "val.json"],
            *["--val-images", "v", "--split", "s.json", "--method", "mean_teacher", "--method.decay", "0.99"],
            *["--network", "resnet50", "--width", "0.5", "--input-size", "128x96", "--batch-size", "16"],
            *["--duration", "30ep", "--lr", "5e-4", "--rotation", "30", "--scale", "0.3", "--flip", "0", "--seed", "3"],
            *[
                "--device",
                "cpu",
                "--precision",
                "fp32",
                "--cache",
                "ram",
                "--workers",
                "2",
                "--baseline",
                "--out",
                "there",
            ],
        ]
    )
    assert call.inputs == {
        "labels": Path("labels.json"),
        "images": Path("img"),
        "unlabeled": ("a", "b/*.jpg"),
        "val": Path("val.json"),
        "val_images": Path("v"),
        "split": Path("s.json"),
        "skeleton": None,
        "detections": None,
        "video_stride": 5,
        "video_change": 0.06,
    }
    s = call.settings
    assert (s.network, s.width, s.input_size, s.batch_size) == ("resnet50", 0.5, (128, 96), 16)
    assert (str(s.duration), s.lr, s.rotation, s.scale, s.flip, s.seed) == ("30ep", 5e-4, 30, 0.3, 0, 3)
    assert (s.device, s.precision, s.cache, s.workers) == ("cpu", "fp32", "ram", 2)
    assert (call.baseline, call.out) == (True, Path("there"))
    assert call.method_settings["decay"] == 0.99
    assert all(s.origin(name).source == "flag" for name in ("method", "lr", "input_size", "flip"))
    assert s.origin("weight_decay").source == "default"


def test_a_flag_with_its_default_value_still_counts_as_given() -> None:
    settings = parse_train([*BASE, "--lr=0.001", "--no-flip-test", "--batch_size", "32"]).settings
    assert [settings.origin(name).source for name in ("lr", "flip_test", "batch_size")] == ["flag"] * 3


def test_without_unlabeled_images_training_is_supervised_and_says_why() -> None:
    settings = parse_train(["labels.json", "--images", "img"]).settings
    assert settings.method == "supervised"
    assert settings.origin("method").source == "data"
    assert "--unlabeled" in settings.origin("method").reason


def test_whole_images_have_another_default_method() -> None:
    parsed = parse_train([*BASE, "--network", "dekr", "--method.cutouts", "3"])
    assert (parsed.settings.method, parsed.method_settings["cutouts"]) == ("mean_teacher", 3)
    assert parsed.settings.origin("method").source == "default"
    assert parse_train(BASE).settings.method == "mean_teacher_levels"
    assert Settings.from_values({"network": "dekr"}).validate().method == "mean_teacher"
    given = Settings.from_values({"network": "dekr", "method": "supervised"}).validate()
    assert given.method == "supervised"


@pytest.mark.parametrize(
    "flags", [["--method", "mean_teacher"], ["--baseline"], ["--method", "supervised", "--baseline"]]
)
def test_what_needs_unlabeled_images_is_refused_without_them(flags: list[str]) -> None:
    with pytest.raises(UsageError, match="--unlabeled FOLDER"):
        parse_train(["labels.json", "--images", "img", *flags])


def test_method_options_follow_the_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_train([*BASE, "--method", "pose_cons"]).method_settings == methods.typed_options("pose_cons", {})
    with pytest.raises(SystemExit, match="0"):
        parse_train(["--method", "pose_cons", "--help"])
    shown = capsys.readouterr().out
    assert "--method.cutouts" in shown
    assert "--method.decay" not in shown


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--rotatoin", "3"], "--rotation"),
        (["--method.decya", "0.9"], "--method.decay"),
        (["--lr", "fast"], "expected a number, found 'fast'"),
        (["--input-size", "256"], "256x192"),
        (["--duration", "forever"], "30ep"),
        (["--cache", "disc"], "'disc'"),
        (["--method.outside", "nothing"], "unknown"),
        (["--batch-size", "1.5"], "whole number"),
        (["--workers", "-1"], "--workers -1: must be at least 1, or none"),
        (["--method", "mean_techer"], "did you mean 'mean_teacher'"),
        (["--input-size", "100x100"], "multiples of 32"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_flags_exit_with_2_and_teach(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["train", *BASE, *flags]) == 2
    # The frame breaks lines, so words are compared without it.
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert told in shown


def test_flags_of_a_comparison_are_read() -> None:
    call = parse_compare(
        [
            *[
                "labels.json",
                "--images",
                "img",
                "--methods",
                "mean_teacher[decay=0.9],pose_cons",
                "--label-amounts",
                "5%,50",
            ],
            *["--unlabeled", "frames", "--seeds", "2", "--by", "group", "--test", "t.json", "--out", "there"],
            *["--jobs", "4"],
            *["--launcher", "submitit", "--cluster", "timeout_min=5", "--cluster", "slurm_partition=gpu"],
            *["--input-size", "128x96", "--duration", "300", "--no-flip-test"],
        ]
    )
    settings = call.pop("settings")
    assert set(call) < set(inspect.signature(semipose.compare).parameters)
    assert (call["labels"], call["label_amounts"]) == (Path("labels.json"), "5%,50")
    assert (call["seeds"], call["by"]) == (2, "group")
    assert (call["methods"], call["jobs"]) == ("mean_teacher[decay=0.9],pose_cons", 4)
    assert (call["launcher"], call["cluster"]) == ("submitit", ("timeout_min=5", "slurm_partition=gpu"))
    assert (settings.input_size, str(settings.duration)) == ((128, 96), "300")
    assert [settings.origin(name).source for name in ("duration", "flip_test", "lr")] == ["flag", "flag", "default"]
    defaults = inspect.signature(semipose.compare).parameters
    alone = parse_compare(["labels.json", "--images", "img"])
    unlike = {name for name, value in alone.items() if str(value) != str(defaults[name].default)}
    assert unlike == {"labels", "images", "settings", "unlabeled"}  # the last are () and None


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--metods", "all"], "--methods"),
        (["--seed", "3"], "--seeds"),  # of no use here, and like another
        (["--split", "s.json"], "Unrecognized options: --split"),
        (["--patience", "3"], "Unrecognized options: --patience"),
        (["--label-amounts", "150%"], "--label-amounts 150%: expected shares below 100 %"),
        (["--methods", "mean_techer"], "did you mean 'mean_teacher'"),
        (["--duration", "2h"], "--duration 7200s: rows must train for equally many updates"),
    ],
)
def test_wrong_flags_of_a_comparison_exit_with_2_and_teach(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(["compare", "labels.json", "--images", "img", *flags]) == 2
    assert told in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def exit_code(argv: list[str]) -> int | str | None:
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code


# Yaml


def test_yaml_gives_defaults_and_flags_win(tmp_path: Path) -> None:
    text = """
    lr: 1e-2
    batch-size: 8
    input_size: [128, 96]
    duration: 300
    method: mean_teacher
    method.decay: 0.9
    method.ramp: 2e-1
    unlabeled: [a, b]
    baseline: yes
    workers: null
    """
    file = yaml_file(tmp_path, text)
    call = parse_train(["l.json", "--images", "img", "--config", file, "--batch-size", "4", "--method.ramp", "0.3"])
    s = call.settings
    assert (s.lr, s.batch_size, s.input_size, str(s.duration), s.workers) == (0.01, 4, (128, 96), "300", None)
    assert (call.method_settings["decay"], call.method_settings["ramp"]) == (0.9, 0.3)
    assert (call.inputs["unlabeled"], call.baseline) == (("a", "b"), True)
    assert s.origin("lr") == ("yaml", f"{file}:2")
    assert s.origin("method").source == "yaml"
    assert s.origin("batch_size").source == "flag"


def test_a_flag_replaces_a_list_of_the_yaml(tmp_path: Path) -> None:
    file = yaml_file(tmp_path, "unlabeled: [a, b]\nbaseline: true\nlabels: l.json\nimages: img\n")
    call = parse_train(["--config", file, "--unlabeled", "c", "--no-baseline"])
    assert (call.inputs["unlabeled"], call.baseline) == (("c",), False)
    assert call.inputs["labels"] == Path("l.json")


def test_all_errors_of_a_yaml_are_reported_at_once_with_lines(tmp_path: Path) -> None:
    text = "lr: -1\nbatch-sise: 8\nmethod.decya: 0.9\nrotation: forty\nflip: 0\nflip: 1\nout: 5\nmethod: mean_techer\n"
    file = yaml_file(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        parse_train([*BASE, "--config", file])
    told = str(caught.value)
    assert "did you mean 'batch_size'" in told
    assert "did you mean 'method.decay'" in told
    assert "did you mean 'mean_teacher'" in told
    assert "flip is already set in line 5" in told
    for line in (1, 2, 3, 4, 6, 7, 8):
        assert f"config.yaml:{line}" in told, line


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "just text"])
def test_a_yaml_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.yaml"):
        Config.read(yaml_file(tmp_path, text))


def test_an_empty_yaml_says_nothing(tmp_path: Path) -> None:
    assert Config.read(yaml_file(tmp_path, "# nothing\n")).entries == {}


def test_yaml_cannot_make_python_objects(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="constructor"):
        Config.read(yaml_file(tmp_path, "out: !!python/object/apply:os.getcwd []\n"))


# Verbs and exit codes


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in ("train", "eval", "predict", "check", "split", "resume", "compare", "demo", "methods"):
        assert f"\n  {command} " in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_verb_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([command, "--help"]) == 0
    assert f"usage: semipose {command}" in capsys.readouterr().out


@pytest.mark.parametrize(("argv", "told"), [(["trian"], "did you mean 'train'"), ([], "no command is given")])
def test_an_unknown_verb_is_refused(argv: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert told in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert semipose.__version__ in capsys.readouterr().out


def test_methods_lists_all_and_explains_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    assert all(name in capsys.readouterr().out for name in methods.available()[:1])
    assert main(["methods", "mean_teacher"]) == 0
    assert "--method.decay" in capsys.readouterr().out
    assert main(["methods", "mean_techer"]) == 2


Recorder = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Replace a function of a task; its calls are checked against the real signature and kept."""

    def replace(module: str, name: str, answer: Any = None) -> list[dict[str, Any]]:
        home = importlib.import_module(module)
        signature = inspect.signature(getattr(home, name))
        calls: list[dict[str, Any]] = []

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            calls.append(signature.bind(*args, **kwargs).arguments)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        monkeypatch.setattr(home, name, stand_in)
        return calls

    return replace


def test_train_loads_the_data_and_starts(record: Recorder) -> None:
    loaded = record("semipose.formats.load", "load", "the data")
    started = record("semipose.tasks.train", "train")
    assert main(["train", *BASE, "--seed", "5", "--baseline"]) == 0
    assert (loaded[0]["labels"], loaded[0]["seed"]) == (Path("labels.json"), 5)
    call = started[0]
    assert (call["data"], call["baseline"], call["out"], call["settings"].seed) == ("the data", True, None, 5)
    assert call["command"] == ["semipose", "train", *BASE, "--seed", "5", "--baseline"]
    assert call["method_settings"] == methods.typed_options("mean_teacher_levels", {})


def test_eval_hands_on_its_flags(record: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    from semipose.metrics.score import Score

    score = Score({"pck@0.1": 51.25}, {}, {"pck@0.1": (50.0, 52.0)}, {}, ["said with the numbers"])
    calls = record("semipose.tasks.evaluate", "evaluate", score)
    assert main(["eval", "run", "l.json", "--images", "img", "--flip-test", "--out", "o.json"]) == 0
    assert (calls[0]["flip_test"], calls[0]["out"], calls[0]["which"]) == (True, Path("o.json"), "best")
    shown = capsys.readouterr().out
    assert "51.25   [50.00, 52.00]" in shown
    assert "said with the numbers" in shown


def test_predict_takes_several_inputs_and_needs_one(record: Recorder) -> None:
    calls = record("semipose.tasks.predict", "predict", Path("o"))
    assert main(["predict", "run", "a.jpg", "b", "--out", "o", "--no-draw"]) == 0
    assert (calls[0]["inputs"], calls[0]["draw"]) == (["a.jpg", "b"], False)
    assert main(["predict", "run", "--out", "o"]) == 2


@pytest.mark.parametrize("errors", [0, 1])
def test_check_exits_with_1_when_there_are_errors(record: Recorder, errors: int) -> None:
    record("semipose.formats.load", "load", "the data")
    calls = record("semipose.tasks.check", "check", errors)
    assert main(["check", *BASE, "--quick"]) == errors
    assert (calls[0]["data"], calls[0]["quick"]) == ("the data", True)


def test_check_takes_the_inputs_of_train() -> None:
    flags = ["l.json", "--images", "i", "--unlabeled", "a", "--unlabeled", "b", "--split", "s"]
    inputs = parse_check(flags)
    assert {name: value for name, value in inputs.items() if name not in ("out", "quick")} == parse_train(flags).inputs


@pytest.mark.parametrize(
    ("argv", "module", "name", "expected"),
    [
        (["resume", "r"], "semipose.tasks.train", "resume", {"folder": Path("r")}),
        (["export", "r", "--out", "m.onnx"], "semipose.tasks.export", "export", {"out": Path("m.onnx")}),
        (["demo", "--out", "d", "--seed", "2"], "semipose.tasks.demo", "demo", {"out": Path("d"), "seed": 2}),
    ],
)
def test_the_other_verbs_hand_on_their_flags(
    record: Recorder, argv: list[str], module: str, name: str, expected: dict[str, Any]
) -> None:
    calls = record(module, name)
    assert main(argv) == 0
    assert expected.items() <= calls[0].items()


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["methods"]])
def test_a_reader_that_goes_away_ends_it_without_a_word(argv: list[str], buffered: bool) -> None:
    """As in `semipose train --help | head`."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", f"import sys; from semipose.cli.main import main; sys.exit(main({argv}))"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=env if buffered else env | {"PYTHONUNBUFFERED": "1"},
    )
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == ""


@pytest.mark.parametrize(("error", "code"), [(DataError("bad"), 1), (UsageError("bad"), 2), (KeyboardInterrupt(), 130)])
def test_errors_become_exit_codes(
    record: Recorder, error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    record("semipose.tasks.train", "resume", error)
    assert main(["resume", "r"]) == code
    assert capsys.readouterr().err == ("" if code == 130 else "semipose: bad\n")


def test_split_writes_a_file_that_train_reads(tmp_path: Path) -> None:
    from semipose.data.splits import load_split

    category = {"id": 1, "name": "dot", "keypoints": ["left", "right"], "skeleton": []}
    images = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(10)]
    people = [
        {
            "id": n,
            "image_id": n,
            "category_id": 1,
            "keypoints": [5, 5, 2, 20, 20, 2],
            "num_keypoints": 2,
            "bbox": [0, 0, 30, 30],
            "area": 900,
            "iscrowd": 0,
        }
        for n in range(10)
    ]
    for image in images:
        (tmp_path / str(image["file_name"])).touch()
    labels, out = tmp_path / "l.json", tmp_path / "s.json"
    labels.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))
    flags = ["split", str(labels), "--images", str(tmp_path), "--labeled", "3", "--out", str(out)]
    assert main(flags) == 0
    split = load_split(out)
    assert (len(split.labeled), len(split.unlabeled), split.people) == (3, 7, None)
    assert main([*flags, "--by", "first"]) == 0
    assert [one.tolist() for one in load_split(out) if one is not None] == [[0, 1, 2], [3, 4, 5, 6, 7, 8, 9], [0, 1, 2]]


def test_a_method_in_the_current_folder_is_found_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "my_way.py").write_text(
        "from semipose.methods.supervised import Supervised\nclass MyWay(Supervised):\n    '''Mine.'''\n"
    )
    # A file beside it with the name of a package of ours must not be taken for that package.
    (tmp_path / "yaml.py").write_text("raise RuntimeError('shadowed')")
    script = Path(sys.executable).with_name("semipose")
    done = subprocess.run([script, "methods", "my_way:MyWay"], cwd=tmp_path, capture_output=True, text=True)
    assert "Mine." in done.stdout, done.stderr
