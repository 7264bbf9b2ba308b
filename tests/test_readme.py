"""The README says what is: its tables are the results', its flags and names exist."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import semipose
from benchmarks.tables import PAGES, filled
from semipose import methods
from semipose.cli.flags import CHECK, COMPARE, INPUTS, OUTPUTS
from semipose.cli.main import COMMANDS
from semipose.config.settings import Settings, flag

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "run python -m benchmarks.tables"


def test_its_python_parses_and_names_what_there_is() -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for block in blocks:
        tree = ast.parse(block)
        names = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        used = {node.attr for node in names if ast.unparse(node.value) == "sp"}
        assert used
        assert used <= set(semipose.__all__)


def test_its_flags_exist() -> None:
    known = {flag(name) for command in COMMANDS.values() for name in inspect.signature(command).parameters}
    known |= {flag(name) for name in {**INPUTS, **OUTPUTS, **CHECK, **COMPARE, **Settings.types()}}
    known |= {
        f"--method.{option.name.replace('_', '-')}"
        for name in methods.available()
        for option in methods.describe(name).options
    }
    known |= {"--method.NAME", "--help", "--data", "--labels", "--out", "--cache", "--nproc-per-node"}
    used = set(re.findall(r"--[a-z][\w.-]*\w", TEXT))
    assert used - known == set()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT))))
def test_its_links_lead_somewhere(path: str) -> None:
    assert (Path(__file__).parents[1] / path).exists()
