"""Every command and snippet of README, CONTRIBUTING and docs, on a few synthetic people.

Run for real, in this process: `semipose check`, `split`, `methods`, `predict`, `eval` and `--version`; the `train`
command of README, with tiny settings; and python blocks, whose `sp.train` gets tiny settings too. With a baseline it
returns the run of README's command, to save time. Json and yaml blocks are read by the readers that they are for.

Parsed, by the real command line and with the real data, up to the call of their task: the other `train` commands,
`resume`, `compare`, `demo`, `export`, and commands on runs that are not trained here (`NOT_TRAINED`). The same holds
for commands behind `torchrun`, also in blocks that need GPUs.

Looked up: `make` (the target exists), `pip install` (the extra exists), `python -m` (module and flags exist).
Not looked at: `SET_UP`. Blocks with a title are recipes: see test_recipes.py.
"""

import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import semipose
from semipose.cli.flags import parse_train
from semipose.cli.main import main
from semipose.comparison.records import Spread
from semipose.config.settings import Settings
from semipose.formats.load import load
from semipose.metrics import bootstrap
from semipose.metrics.pck import Floats
from semipose.metrics.score import Score
from semipose.pose.skeleton import Skeleton
from semipose.synthetic.single import write_demo
from tests.docs.pages import DOCS, PAGES, ROOT, Block, blocks, blocks_of

TINY: dict[str, Any] = {
    "network": "mobilenet_v1",
    "width": 0.125,
    "head_channels": 8,
    "input_size": "64x64",
    "batch_size": 4,
    "duration": 2,
    "eval_every": 1000,
    "device": "cpu",
    "workers": 1,
}
TASKS = {
    "train": "semipose.tasks.train.train",
    "resume": "semipose.tasks.train.resume",
    "compare": "semipose.comparison.compare.compare",
    "demo": "semipose.tasks.demo.demo",
    "export": "semipose.tasks.export.export",
    "predict": "semipose.tasks.predict.predict",
    "eval": "semipose.tasks.evaluate.evaluate",
}
RUN = {"check", "split", "methods", "predict", "eval", "--version"}
NOT_TRAINED = "runs/labels-instance_pseudo_label-1"
SET_UP = ("python -m venv .venv", "source .venv/bin/activate")
PLAIN_PAGES = tuple(page for page in PAGES if page.parent != DOCS / "extending")
README_RUN = Path("runs/labels-mean_teacher_levels-1")
TRAIN = ["semipose", "train", "labels.json", "--images", "img/", "--unlabeled", "frames/", "--baseline"]


@pytest.fixture(scope="module", autouse=True)
def _few_resamples() -> Iterator[None]:
    """Intervals of 20 resamples instead of 1,000, which saves seconds."""
    weights = bootstrap.resample_weights

    def few(images: int, *, resamples: int, **rest: int) -> Iterator[Floats]:
        return weights(images, resamples=20, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "resample_weights", few)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of, and the run that the README's train command makes."""
    folder = tmp_path_factory.mktemp("reader")
    demo = write_demo(folder / "drawn", labeled=48, unlabeled=10, val=10, seed=1, size=(96, 72))
    (folder / "labels.json").write_bytes(Path(demo.labels).read_bytes())
    for name in ("test", "val"):
        (folder / f"{name}.json").write_bytes(Path(demo.val).read_bytes())
    links = {"img": demo.images, "frames": demo.unlabeled, "new_pictures": demo.unlabeled}
    links |= {"test_img": demo.val_images, "val": demo.val_images}
    for name, target in links.items():
        (folder / name).symlink_to(target, target_is_directory=True)
    for name in ("mobilenet.safetensors", "other.safetensors"):
        (folder / name).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        assert main([*TRAIN[1:], *tiny]) == 0
    return folder


def recorder(verb: str, seen: list[str]) -> Callable[..., Score]:
    """Stands for a task: notes that it was called, and returns a score, which only `eval` looks at."""

    def task(*_: Any, **__: Any) -> Score:
        seen.append(verb)
        return Score({}, {}, {}, {}, [])

    return task


def test_the_run_is_that_of_the_readme(project: Path) -> None:
    commands = [words for block in blocks_of("bash", (ROOT / "README.md",)) for words in block.commands()]
    assert TRAIN in commands
    assert (project / README_RUN / "report.html").is_file()


BASH = [block for block in blocks_of("bash", PLAIN_PAGES) if block.commands()]


@pytest.mark.parametrize("block", BASH, ids=lambda block: block.id)
def test_commands(block: Block, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    for words in block.commands():
        if words[0] == "torchrun":
            words = ["semipose", *words[words.index("semipose") + 1 :]]
        if words[0] != "semipose":
            look_up(words)
        elif words[1] in RUN and NOT_TRAINED not in words:
            assert main(words[1:]) == 0, words
        else:
            with pytest.MonkeyPatch.context() as patch:
                seen: list[str] = []
                for verb, place in TASKS.items():
                    patch.setattr(place, recorder(verb, seen))
                assert main(words[1:]) == 0, words
            assert seen == [words[1]], words


def look_up(words: list[str]) -> None:
    """Check a command that is not semipose's own."""
    line = " ".join(words)
    if line in SET_UP:
        return
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets, line
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        found = re.fullmatch(r"semipose(?:\[(\w+)\])?", words[2])
        assert found, line
        assert found[1] is None or found[1] in extras["optional-dependencies"], line
    elif words[1:3] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[3:] if not word.startswith("-")), line
    else:
        assert words[:2] == ["python", "-m"], f"{line}: an unknown command; teach it to this test"
        source = (ROOT / f"{words[2].replace('.', '/')}.py").read_text(encoding="utf-8")
        assert [word for word in words[3:] if word.startswith("--") and f'"{word}"' not in source] == [], line


PYTHON = [block for block in blocks_of("python") if not block.title]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.id)
def test_python(block: Block, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, compare = semipose.train, semipose.compare

    def tiny_train(data: Any, **values: Any) -> Any:
        if not values.get("baseline"):
            return train(data, **values | TINY)
        bound = inspect.signature(train).bind(data, **values).arguments
        Settings.from_values(bound.get("values", {}))
        return semipose.Run(README_RUN)

    def bound_compare(*arguments: Any, **values: Any) -> SimpleNamespace:
        bound = inspect.signature(compare).bind(*arguments, **values).arguments
        assert set(bound.get("values", {})) <= set(Settings.types())
        values_by_metric = {"pck@0.1": Spread(61.2, None, [61.2])}
        return SimpleNamespace(rows=[SimpleNamespace(row="mean_teacher", amount="50pct", values=values_by_metric)])

    monkeypatch.chdir(project)
    monkeypatch.setattr(semipose, "train", tiny_train)
    monkeypatch.setattr(semipose, "compare", bound_compare)
    exec(compile(block.text, block.id, "exec"), {})


@pytest.mark.parametrize("block", blocks_of("json"), ids=lambda block: block.id)
def test_json(block: Block, tmp_path: Path) -> None:
    document = json.loads(block.text)
    for image in document["images"]:
        black = np.zeros((image["height"], image["width"], 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / image["file_name"]), black)
    (tmp_path / "labels.json").write_text(block.text, encoding="utf-8")
    data = load(tmp_path / "labels.json", tmp_path)
    assert len(data.labeled) == len(document["annotations"])


@pytest.mark.parametrize("block", blocks_of("yaml"), ids=lambda block: block.id)
def test_yaml(block: Block, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (tmp_path / "file.yaml").write_text(block.text, encoding="utf-8")
    if "sigmas" in block.text:
        example = json.loads(blocks_of("json", (block.page,))[0].text)
        skeleton = Skeleton.from_category(example["categories"][0], yaml.safe_load(block.text))
        assert skeleton.sigmas == (0.03, 0.04, 0.04)
    else:
        inputs = ["labels.json", "--images", "img/", "--unlabeled", "frames/"]
        settings = parse_train([*inputs, "--config", str(tmp_path / "file.yaml")]).settings
        assert {settings.origin(name).source for name in ("network", "input_size", "duration")} == {"yaml"}


def test_every_language_is_known() -> None:
    found = {block.language for page in PAGES for block in blocks(page)}
    assert found <= {"bash", "python", "json", "yaml", "diff", "mermaid", "text"}
