"""Read a method's name, options and docstring from its source file with `ast`, without running it."""

import ast
import importlib.util
import inspect
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from semipose.errors import SemiposeError, suggestion

PLAIN: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "Path": Path, "None": None}
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "(required)"})()
"""The default of an option that has none."""


@dataclass(frozen=True)
class Option:
    """An option of a method: `--method.NAME`."""

    name: str
    type: Any
    default: Any
    help: str

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a Literal; empty for other types."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()


@dataclass(frozen=True)
class MethodInfo:
    """The description of a method; `deployed` None means that validation chooses the network."""

    name: str
    class_name: str
    docstring: str
    options: tuple[Option, ...]
    deployed: str | None
    uses_unlabeled: bool
    top_down: bool
    detector_free: bool
    baseline_options: tuple[str, ...]
    source: Path

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.docstring.partition("\n")[0]


def snake_case(name: str) -> str:
    """`MeanTeacher` -> `mean_teacher`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def find_class(file: Path) -> str | None:
    """Find the class in `file` whose snake_case name is the file's and that has Method as a base, or None."""
    for name, node in _classes(_parse(file)).items():
        if snake_case(name) == file.stem and any(_last_name(base) == "Method" for base in node.bases):
            return name
    return None


def module_file(module: str) -> Path | None:
    """Find the source file of a dotted module name, or None."""
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def read_class(name: str, file: Path, class_name: str) -> MethodInfo:
    """Describe class `class_name` of `file` as method `name`; KeyError with a hint when it is not there."""
    chain = _lineage(file, class_name)
    docstring = inspect.cleandoc(ast.get_docstring(chain[0][1]) or "")
    options: tuple[Option, ...] = ()
    for place, node in chain:
        init = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
        if init is not None:
            options = _options(place, init)
            break
    deployed, uses_unlabeled = _attribute(chain, "deployed", None), _attribute(chain, "uses_unlabeled", True)
    kinds = _attribute(chain, "top_down", True), _attribute(chain, "detector_free", False)
    shared = tuple(_attribute(chain, "baseline_options", ()))
    return MethodInfo(name, class_name, docstring, options, deployed, uses_unlabeled, *kinds, shared, file)


def _lineage(file: Path, class_name: str) -> list[tuple[Path, ast.ClassDef]]:
    """List the class and its bases that are in `file` or among semipose's own methods."""
    tree = _parse(file)
    classes = _classes(tree)
    if class_name not in classes:
        raise KeyError(suggestion(class_name, classes))
    node = classes[class_name]
    lineage = [(file, node)]
    imported = {
        alias.asname or alias.name: (item.module or "", alias.name)
        for item in tree.body
        if isinstance(item, ast.ImportFrom)
        for alias in item.names
    }
    for base in map(_last_name, node.bases):
        module, original = imported.get(base, ("", base))
        # Other modules are not followed: finding a module imports its parents, which may import torch.
        place = module_file(module) if module.startswith("semipose.methods.") else file if base in classes else None
        if place is not None and base != class_name:
            lineage += _lineage(place, original)
    return lineage


def _options(file: Path, init: ast.FunctionDef) -> tuple[Option, ...]:
    comments = _comments(file)
    rows = []
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        end = (default or argument).end_lineno or argument.lineno
        try:
            kind = _type(argument.annotation)
            value = REQUIRED if default is None else ast.literal_eval(default)
        except ValueError as error:
            raise SemiposeError(
                f"{file}:{argument.lineno}: option {argument.arg} of the method cannot become a flag: {error}. "
                "Expected a type of int, float, bool, str, Path, Literal, tuple and `| None`, and a plain default."
            ) from error
        rows.append(Option(argument.arg, kind, value, comments.get(end, "")))
    return tuple(rows)


def _type(node: ast.expr | None) -> Any:
    """Build the type of an annotation from the few names allowed."""
    match node:
        case ast.Name(id=name) if name in PLAIN:
            return PLAIN[name]
        case ast.Constant(value=None):
            return None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _type(left) | _type(right)
        case ast.Subscript(value=head, slice=inner) if _last_name(head) == "Literal":
            values = ast.literal_eval(inner)
            return Literal[values]
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=items)):
            parts = [... if isinstance(i, ast.Constant) and i.value is ... else _type(i) for i in items]
            return tuple[tuple(parts)]  # type: ignore[misc]
    raise ValueError("it has no type" if node is None else f"its type is {ast.unparse(node)}")


def _attribute(chain: list[tuple[Path, ast.ClassDef]], name: str, default: Any) -> Any:
    """Read the literal value of a class attribute, from the nearest class that sets it."""
    for _, node in chain:
        for item in node.body:
            target = item.targets[0] if isinstance(item, ast.Assign) else getattr(item, "target", None)
            value = getattr(item, "value", None)
            if isinstance(target, ast.Name) and target.id == name and value is not None:
                return ast.literal_eval(value)
    return default


def _comments(file: Path) -> dict[int, str]:
    """Map line numbers to trailing comments."""
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text("utf-8")).readline)
    return {token.start[0]: token.string.lstrip("# ").rstrip() for token in tokens if token.type == tokenize.COMMENT}


def _parse(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text("utf-8"), str(file))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise SemiposeError(f"{file} is not valid Python: {error}") from error


def _classes(tree: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _last_name(node: ast.expr) -> str:
    """`Method` of `Method` and of `semipose.methods.method.Method`."""
    return ast.unparse(node).rpartition(".")[2]
