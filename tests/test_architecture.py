"""The house rules: which way imports point, how long files are, what has a docstring, what stays unloaded."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from semipose.methods import available
from semipose.methods._table import table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "semipose"
FILES = sorted(PACKAGE.rglob("*.py"))

# What a room may import beside itself and the modules at the top of the package.
ROOMS: dict[str, set[str]] = {
    "data": set(),
    "views": set(),
    "networks": set(),
    "codecs": set(),
    "metrics": {"data"},
    "methods": {"views", "networks", "codecs"},
    "engine": {"methods", "data", "metrics", "views", "networks", "codecs"},
    "tasks": {"engine", "methods", "data", "metrics", "views", "networks", "codecs"},
}
# Modules at the top that stand above the rooms; no room may import them.
TOPMOST = {"cli", "flags", "__main__"}
TOPMOST_MAY = {"tasks", "engine", "methods", "data"}


def name_of(file: Path) -> str:
    """`semipose/formats/coco.py` -> "data.coco"."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything `file` imports, but for what only the type checker sees."""
    for node in walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import hides its direction"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from walk(child)


def wrong_way(name: str, target: str) -> bool:
    """Whether module `name` of the package must not import `semipose.TARGET`."""
    room, goal = name.partition(".")[0], target.partition(".")[0]
    if goal in TOPMOST:
        return room not in TOPMOST
    if goal not in ROOMS or goal == room:
        return False
    if room in TOPMOST:
        return goal not in TOPMOST_MAY
    return goal not in ROOMS.get(room, set())


def test_imports_point_one_way() -> None:
    faults = [
        f"{name_of(file)}:{line} imports {target}"
        for file in FILES
        for line, target in imports(file)
        if target.startswith("semipose.") and wrong_way(name_of(file), target.removeprefix("semipose."))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("methods.mean_teacher", "engine.trainer"),
        ("methods.mean_teacher", "data.coco"),
        ("methods.mean_teacher", "metrics.oks"),
        ("networks.ema", "methods.method"),
        ("data.coco", "tasks.train"),
        ("data.coco", "networks.build"),
        ("metrics.score", "engine.trainer"),
        ("engine.trainer", "tasks.train"),
        ("geometry", "data.coco"),
        ("tasks.train", "cli"),
        ("cli", "networks.build"),
    ],
)
def test_the_direction_rule_bites(name: str, target: str) -> None:
    assert wrong_way(name, target)


def test_no_file_or_function_is_too_long() -> None:
    faults = []
    for file in FILES:
        lines = len(file.read_text("utf-8").splitlines())
        is_method = file.parent.name == "methods" and file.stem in available()
        if lines > (150 if is_method else 300):
            faults.append(f"{name_of(file)}: {lines} lines")
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and length(node) > 40:
                faults.append(f"{name_of(file)}.{node.name}: {length(node)} lines")
    assert not faults, "\n".join(faults)


def length(node: ast.FunctionDef) -> int:
    """Lines of a function's body, without its docstring: that is for the reader."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_everything_public_has_a_docstring() -> None:
    faults = []
    for file in FILES:
        tree = ast.parse(file.read_text("utf-8"))
        if tree.body and ast.get_docstring(tree) is None:
            faults.append(name_of(file))
        faults += [f"{name_of(file)}.{name}" for name in undocumented(tree)]
    assert not faults, "no docstring: " + ", ".join(faults)


def undocumented(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if not isinstance(item, (ast.FunctionDef, ast.ClassDef)) or item.name.startswith("_"):
            continue
        overloaded = any("overload" in ast.unparse(mark) for mark in item.decorator_list)
        # An nn.Module's forward is told by its class.
        if ast.get_docstring(item) is None and not overloaded and item.name != "forward":
            yield item.name
        if isinstance(item, ast.ClassDef):
            yield from (f"{item.name}.{name}" for name in undocumented(item))


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XXX", "NotImplementedError", "labelled data"])
def test_nothing_is_left_for_later(word: str) -> None:
    found = [f"{name_of(file)}" for file in FILES if re.search(rf"\b{word}\b", file.read_text("utf-8"))]
    assert not found


def test_every_file_among_the_methods_is_a_method() -> None:
    files = {file.stem for file in (PACKAGE / "methods").glob("[!_]*.py")} - {"method"}
    assert files == set(available())


def test_the_readme_shows_the_table_of_methods() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"<!-- methods -->\n(.*?)\n<!-- /methods -->", text, re.DOTALL)
    assert found is not None, "README.md lacks <!-- methods --> ... <!-- /methods -->"
    assert found[1] == table(markdown=True), "paste the output of: python -m semipose methods --markdown"


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("import semipose", "torch cv2 numpy tyro"),
        ("import semipose; semipose.Skeleton, semipose.Poses", "torch cv2 matplotlib"),
        ("from semipose.cli.main import main; main(['--help'])", "torch cv2 matplotlib numpy"),
        ("from semipose.cli.main import main; main(['methods'])", "torch cv2 matplotlib"),
        ("from semipose.cli.flags import parse_train; parse_train(['l', '--images', 'i'])", "torch cv2 matplotlib"),
        ("from semipose.cli.flags import parse_compare; parse_compare(['l', '--images', 'i'])", "torch cv2 matplotlib"),
        ("import semipose.networks, semipose.config.settings, semipose.metrics.score", "torch cv2"),
        ("import semipose.formats.coco, semipose.data.boxes, semipose.data.splits", "torch"),
    ],
)
def test_heavy_packages_stay_unloaded(command: str, heavy: str) -> None:
    ask = f"{command}\nimport sys; loaded = [m for m in {heavy.split()} if m in sys.modules]; assert not loaded, loaded"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_every_public_name_loads() -> None:
    import semipose

    for name in semipose.__all__:
        assert getattr(semipose, name) is not None
        assert name in dir(semipose)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = semipose.trian  # type: ignore[attr-defined]


def test_the_typed_names_are_those_found_at_run_time() -> None:
    import semipose

    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: str(node.module).removeprefix("semipose.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == semipose._HOME
    assert sorted(typed) == semipose.__all__


def test_versions_agree() -> None:
    import semipose

    assert f"## {semipose.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"\nversion: {semipose.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "py.typed" in {file.name for file in PACKAGE.iterdir()}
