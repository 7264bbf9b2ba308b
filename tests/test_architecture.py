"""Rules of the architecture: which way imports point, what has a docstring, what stays unloaded."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

from semipose.methods import available

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "semipose"
FILES = sorted(PACKAGE.rglob("*.py"))

# The packages and the modules at the root, from top to bottom: each may import only what stands in a lower row.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"__init__"},
    {"comparison"},
    {"tasks"},
    {"report"},
    {"runs"},
    {"engine"},
    {"methods", "inference"},
    {"views"},
    {"config", "checks"},
    {"codecs", "networks", "crops", "formats"},
    {"losses", "metrics", "synthetic", "data", "drawing"},
    {"pose", "scene", "fields", "system"},
    {"geometry", "errors"},
]
LEVEL = {name: level for level, names in enumerate(reversed(LAYERS)) for name in names}
# What is made of tensors alone knows no files, data sets or metrics.
TENSORS = {"methods", "views", "codecs", "networks", "losses", "fields", "scene", "geometry"}
FILES_AND_SCORES = {"checks", "crops", "formats", "data", "metrics", "synthetic", "drawing"}
# `methods` and `networks` have a file for each named thing; the others are to be read in one sitting.
MOST_FILES = 15
LONGEST_FUNCTION = 50


def name_of(file: Path) -> str:
    """`semipose/data/coco.py` -> "data.coco"; of a package its `__init__` stands for it."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(file): file for file in FILES}


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and module name of everything of semipose that `file` imports: at the top, in functions, for types."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import hides its direction"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, module) for name in names if (module := module_of(name)) is not None)


def module_of(name: str) -> str | None:
    """The module in which the imported `semipose.a.b.c` is defined: "a.b"; None for other packages."""
    if name.partition(".")[0] != "semipose":
        return None
    parts = name.split(".")[1:]
    while ".".join(parts) not in MODULES and parts:
        parts.pop()
    return ".".join(parts) or "__init__"


def wrong_way(name: str, target: str) -> bool:
    """Whether module `name` of the package must not import module `target`."""
    package, other = name.partition(".")[0], target.partition(".")[0]
    if package in TENSORS and other in FILES_AND_SCORES:
        return True
    return package != other and LEVEL[package] <= LEVEL[other]


def test_imports_point_one_way() -> None:
    faults = [
        f"{name_of(file)}:{line} imports {target}"
        for file in FILES
        for line, target in imports(file)
        if wrong_way(name_of(file), target)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("methods.mean_teacher", "engine.trainer"),
        ("methods.mean_teacher", "data.people"),
        ("methods.mean_teacher", "inference.model"),
        ("networks.ema", "methods.method"),
        ("networks.ema", "codecs.heatmap"),
        ("formats.coco", "tasks.train"),
        ("runs.run", "report.page"),
        ("engine.trainer", "tasks.train"),
        ("geometry", "formats.coco"),
        ("tasks.train", "cli.main"),
        ("tasks.train", "__init__"),
    ],
)
def test_the_direction_rule_bites(name: str, target: str) -> None:
    assert wrong_way(name, target)


def circles(edges: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others (Tarjan's strong components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in edges[node]:
            if other not in number:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            at = stack.index(node)
            found.append(sorted(stack[at:]))
            del stack[at:]

    for node in edges:
        if node not in number:
            visit(node)
    return [group for group in found if len(group) > 1 or group[0] in edges[group[0]]]


def test_no_modules_import_each_other() -> None:
    edges = {name: {target for _, target in imports(file)} - {name} for name, file in MODULES.items()}
    assert circles(edges) == []


def test_the_search_for_circles_bites() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def test_packages_are_small_enough_to_read() -> None:
    sizes = {
        folder.name: len(list(folder.glob("*.py"))) - 1
        for folder in PACKAGE.iterdir()
        if (folder / "__init__.py").is_file() and folder.name not in ("methods", "networks")
    }
    assert {name: size for name, size in sizes.items() if size > MOST_FILES} == {}


def test_a_public_name_stands_for_one_thing_within_a_package() -> None:
    homes: dict[tuple[str, str], list[str]] = {}
    for name, file in MODULES.items():
        package = name.partition(".")[0]
        for node in ast.parse(file.read_text("utf-8")).body:
            for public in defined(node):
                homes.setdefault((package, public), []).append(name)
    assert {key: modules for key, modules in homes.items() if len(modules) > 1} == {}


def defined(node: ast.stmt) -> list[str]:
    """Public functions, classes and constants that a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = [node.name]
    elif isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        names = [node.target.id]
    else:
        names = []
    return [name for name in names if not name.startswith("_")]


def test_no_function_is_too_long() -> None:
    faults = [
        f"{name_of(file)}.{node.name}: {length(node)} lines"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and length(node) > LONGEST_FUNCTION
    ]
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


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("import semipose", "torch cv2 numpy tyro"),
        ("import semipose; semipose.Skeleton, semipose.Poses", "torch cv2"),
        ("from semipose.cli.main import main; main(['--help'])", "torch cv2 numpy"),
        ("from semipose.cli.main import main; main(['methods'])", "torch cv2"),
        ("from semipose.cli.flags import parse_train; parse_train(['l', '--images', 'i'])", "torch cv2"),
        ("from semipose.cli.flags import parse_compare; parse_compare(['l', '--images', 'i'])", "torch cv2"),
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
