"""The recipes of docs/extending, followed to the letter in a copy of the package.

Blocks with a title are files: python ones are written, diffs are applied to the copy. Then the commands of these pages
run in one process that imports the copy: `train` with tiny settings, on a few synthetic people, and
commands on the run of their page (or on the first run).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from semipose.synthetic.single import write_demo
from tests.docs.pages import DOCS, ROOT, Block, blocks_of

PAGES = tuple(sorted((DOCS / "extending").glob("*.md")))
TINY = {
    "network": "mobilenet_v1",
    "width": 0.125,
    "head-channels": 8,
    "input-size": "64x64",
    "batch-size": 4,
    "duration": 2,
    "eval-every": 1000,
    "device": "cpu",
    "workers": 1,
    "out": None,
}
# Runs each command and prints what it printed between lines that name it. Intervals of few resamples save seconds.
DRIVER = """
import json, sys
from semipose.cli.main import main
from semipose.metrics import bootstrap
weights = bootstrap.resample_weights
bootstrap.resample_weights = lambda images, *, resamples, **rest: weights(images, resamples=20, **rest)
for words in json.loads(sys.argv[1]):
    print("$", *words, flush=True)
    code = main(words)
    print("=", code, flush=True)
    if code:
        sys.exit(1)
"""


def apply(diff: str, file: Path) -> None:
    """Change `file` as a diff without line numbers says; what it replaces must be there exactly once."""
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file.name} holds these lines {text.count(old)} times:\n{old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package in which all recipes were followed, and data."""
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copytree(ROOT / "semipose", folder / "semipose", ignore=shutil.ignore_patterns("__pycache__"))
    for block in [*blocks_of("python", PAGES), *blocks_of("diff", PAGES)]:
        if block.language == "diff":
            apply(block.text, folder / block.title)
        elif block.title:
            assert not (folder / block.title).exists(), f"{block.title} exists already"
            (folder / block.title).write_text(block.text, encoding="utf-8")
    demo = write_demo(folder / "drawn", labeled=48, unlabeled=10, val=10, seed=1, size=(96, 72))
    shutil.copy(demo.labels, folder / "labels.json")
    shutil.copy(demo.val, folder / "test.json")
    write_csv(demo.labels, folder / "labels.csv")
    for name, target in {"img": demo.images, "frames": demo.unlabeled, "test_img": demo.val_images}.items():
        (folder / name).symlink_to(target, target_is_directory=True)
    return folder


def write_csv(labels: Path, file: Path) -> None:
    """Write a COCO json in the format of label_format.md."""
    content = json.loads(labels.read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in content["images"]}
    rows = [[names[one["image_id"]], *one["keypoints"]] for one in content["annotations"]]
    header = ["image", *chain.from_iterable((name, "", "") for name in content["categories"][0]["keypoints"])]
    file.write_text("".join(",".join(map(str, row)) + "\n" for row in [header, *rows]), encoding="utf-8")


def commands() -> list[list[str]]:
    """The semipose commands of all recipes, with tiny settings where they train; runs are numbered in order."""
    found = []
    page, trained = None, ""
    for block in blocks_of("bash", PAGES):
        if block.page != page:
            page, trained = block.page, "runs/0"
        for words in block.commands():
            if words[0] != "semipose":
                assert words[:3] == ["python", "-m", "pytest"], words
                continue
            if words[1] == "train":
                values = TINY | {"out": f"runs/{len(found)}"}
                missing = [(f"--{name}", str(value)) for name, value in values.items() if f"--{name}" not in words]
                words = [*words, *chain.from_iterable(missing)]
                trained = values["out"]
            else:
                words = [word.replace("runs/labels-mean_teacher_levels-1", trained) for word in words]
            found.append(words[1:])
    return found


def test_the_commands_of_the_recipes_run(followed: Path) -> None:
    wanted = commands()
    environment = os.environ | {"PYTHONPATH": str(followed)}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(wanted)],
        cwd=followed,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.count("= 0") == len(wanted)
    assert "TwoViews" in done.stdout or "two weak views" in done.stdout
    assert "within_5px" in done.stdout
    assert len(re.findall(r"^\w+ +\d+\.\d$", done.stdout, re.MULTILINE)) == 3
    assert {words[0] for words in wanted} == {"methods", "train", "eval", "check", "split", "worst"}


PLAIN = [block for block in blocks_of("python", PAGES) if not block.title]


def test_python_without_a_file_is_run_with_the_other_snippets() -> None:
    assert [block.page.name for block in PLAIN] == ["metric.md"]


@pytest.mark.parametrize("block", [block for block in blocks_of("python", PAGES) if block.title], ids=lambda b: b.id)
def test_recipes_are_formatted(block: Block, tmp_path: Path) -> None:
    file = tmp_path / Path(block.title).name
    file.write_text(block.text, encoding="utf-8")
    for verb in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *verb, "--config", str(ROOT / "pyproject.toml"), str(file)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
