"""Methods are read from their files: names, options, docstrings; nothing is imported."""

import json
import sys
from pathlib import Path
from typing import Literal

import pytest

from semipose import methods
from semipose.errors import SemiposeError, UsageError
from semipose.methods import REQUIRED
from semipose.methods._source import snake_case
from semipose.methods._table import explain, table
from semipose.system.files import write_json

GOOD = '''
"""A module that must not run."""
from typing import Literal
from semipose.methods.method import Method

raise RuntimeError("imported")

class Helper:
    pass

class TwoWords(Method):
    """Says what it does.

    More about it.
    """

    deployed = "teacher"

    def __init__(
        self, build, skeleton, *,
        plain: int = 3,  # how many
        maybe: float | None = None,  # nothing or a number; "#" stays
        choice: Literal["a", "b"] = "a",  # which
        pair: tuple[float, float] = (0.1, 1e-3),
        many: tuple[int, ...] = (),
        switch: bool = False,  # on or off
        needed: str,
    ) -> None:
        super().__init__(build, skeleton)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "two_words.py").write_text(GOOD)
    (tmp_path / "method.py").write_text("class Method: pass")
    (tmp_path / "_helper.py").write_text("class Helper(Method): pass")
    (tmp_path / "other.py").write_text("class SomethingElse(Method): pass")
    return tmp_path


def method_file(folder: Path, options: str) -> None:
    text = f"class Mine(Method):\n    def __init__(self, build, skeleton, *, {options}): pass\n"
    (folder / "mine.py").write_text(text)


def test_a_method_is_a_file_with_a_class_of_its_name(folder: Path) -> None:
    assert methods.available(folder) == ("two_words",)


def test_a_description_has_options_with_types_defaults_and_comments(folder: Path) -> None:
    info = methods.describe("two_words", folder)
    assert (info.summary, info.deployed, info.uses_unlabeled) == ("Says what it does.", "teacher", True)
    assert info.docstring.endswith("More about it.")
    rows = {o.name: (o.type, o.default, o.help) for o in info.options}
    assert rows == {
        "plain": (int, 3, "how many"),
        "maybe": (float | None, None, 'nothing or a number; "#" stays'),
        "choice": (Literal["a", "b"], "a", "which"),
        "pair": (tuple[float, float], (0.1, 0.001), ""),
        "many": (tuple[int, ...], (), ""),
        "switch": (bool, False, "on or off"),
        "needed": (str, REQUIRED, ""),
    }
    assert info.options[2].choices == ("a", "b")


def test_options_are_converted_from_text(folder: Path) -> None:
    raw = {"plain": "4", "maybe": "none", "pair": ["1", 2], "switch": "true", "needed": "x", "many": [1]}
    values = methods.typed_options("two_words", raw, folder)
    assert values == {
        "plain": 4,
        "maybe": None,
        "choice": "a",
        "pair": (1.0, 2.0),
        "many": (1,),
        "switch": True,
        "needed": "x",
    }


def test_a_path_is_made_absolute_because_a_run_is_resumed_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method_file(tmp_path, "weights: Path | None = None")
    monkeypatch.chdir(tmp_path)
    assert methods.typed_options("mine", {"weights": "own.pth"}, tmp_path) == {"weights": tmp_path / "own.pth"}
    write_json(tmp_path / "run.json", methods.typed_options("mine", {"weights": "own.pth"}, tmp_path))
    record = json.loads((tmp_path / "run.json").read_text())
    assert methods.typed_options("mine", record, tmp_path) == {"weights": tmp_path / "own.pth"}


def test_all_faults_of_options_are_reported_at_once(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        methods.typed_options("two_words", {"plian": 1, "choice": "c", "maybe": "x"}, folder)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "did you mean 'plain'" in lines[0]
    assert lines[1] == "--method.choice: expected one of a, b, found 'c'"
    assert lines[2] == "--method.maybe: expected a number, found 'x'"
    assert "--method.needed" in lines[3]


@pytest.mark.parametrize("options", ["a=1", "a: dict = None", "a: float = compute()", "a: list[int] = []"])
def test_an_option_that_cannot_be_a_flag_is_refused_with_its_line(tmp_path: Path, options: str) -> None:
    method_file(tmp_path, options)
    with pytest.raises(SemiposeError, match=r"mine\.py:2: option a"):
        methods.describe("mine", tmp_path)


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'mean_teacher'"):
        methods.describe("mean_techer")


@pytest.mark.parametrize("name", ["../secret", "method", "_source", "", "/etc/passwd"])
def test_only_names_of_methods_are_looked_up(name: str) -> None:
    with pytest.raises(UsageError, match="no such method"):
        methods.describe(name)


def test_somebody_elses_method_is_read_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_method.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    info = methods.describe("their_method:TwoWords")
    assert info.name == "their_method:TwoWords"
    assert len(info.options) == 7
    assert "their_method" not in sys.modules


def test_options_are_inherited_from_a_method_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from semipose.methods.mean_teacher import MeanTeacher\nclass Mine(MeanTeacher):\n    '''Mine.'''\n"
    (tmp_path / "their_heir.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    info = methods.describe("their_heir:Mine")
    assert info.options == methods.describe("mean_teacher").options
    assert (info.deployed, info.summary) == ("teacher", "Mine.")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere.at_all:Mine", "no module 'nowhere.at_all'"),
        ("semipose.methods.pose_cons:PoseCon", "did you mean 'PoseCons'"),
        (":Mine", "no module ''"),
    ],
)
def test_a_missing_third_party_method_says_what_is_missing(name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        methods.describe(name)


def test_a_class_that_is_no_method_is_not_loaded() -> None:
    with pytest.raises(UsageError, match="not a subclass"):
        methods.load("semipose.methods.method:Progress")


@pytest.mark.parametrize("name", methods.available())
def test_every_method_loads_and_its_options_are_those_of_its_signature(name: str) -> None:
    import inspect

    signature = inspect.signature(methods.load(name).__init__)
    keywords = {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    info = methods.describe(name)
    assert {option.name: option.default for option in info.options} == keywords
    assert info.deployed == methods.load(name).deployed
    assert info.uses_unlabeled == methods.load(name).uses_unlabeled


@pytest.mark.parametrize("name", methods.available())
def test_every_method_explains_itself_and_each_option(name: str) -> None:
    info = methods.describe(name)
    assert info.summary.endswith(".")
    for word in ("Teacher BatchNorm:", "Deployed:"):
        assert word in info.docstring, f"{name}: its docstring must say {word}"
    for option in info.options:
        assert option.help, f"{name}: option {option.name} has no trailing comment"
        assert f"--method.{option.name}" in explain(name)
    assert name in table()
    assert f"| `{name}` |" in table(markdown=True)


def test_what_a_third_party_method_imports_is_exported_and_typed() -> None:
    import ast

    assert methods.Method.__name__ == "Method"
    for name in methods.__all__:
        assert getattr(methods, name) is not None
        assert name in dir(methods)
    with pytest.raises(AttributeError, match="no attribute 'Metod'"):
        _ = methods.Metod
    tree = ast.parse(Path(methods.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: str(node.module).removeprefix("semipose.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == methods._HOME


def test_names_of_classes_become_names_of_files() -> None:
    assert snake_case("MeanTeacher") == "mean_teacher"
    assert snake_case("SSPCM") == "sspcm"
    assert snake_case("PoseMUM") == "pose_mum"
    assert snake_case("TeacherReviewerStudent") == "teacher_reviewer_student"
