"""The pages say what is: tables are the results', and flags, files, links and packages exist."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks.tables import filled
from semipose import methods
from semipose.cli.flags import CHECK, COMPARE, INPUTS, OUTPUTS
from semipose.cli.main import COMMANDS
from semipose.config.settings import Settings, flag
from tests.docs.pages import DOCS, PAGES, ROOT, blocks_of, prose
from tests.test_architecture import LAYERS

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Flags of torchrun, of the programs in benchmarks/, and of every program.
OTHERS = {"--nproc-per-node", "--nnodes", "--rdzv-endpoint", "--compile", "--help", "--label-amounts", "--method.NAME"}
# Flags that a page says do not exist.
PLANNED = {"docs/decisions.md": {"--sigma", "--boxes"}}
# Files that a recipe tells its reader to write.
EXAMPLES = {"semipose/methods/two_views.py", "tests/tasks/test_worst.py"}
names = [page.relative_to(ROOT).as_posix() for page in PAGES]
all_pages = pytest.mark.parametrize("page", PAGES, ids=names)


@all_pages
def test_tables_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "run python -m benchmarks.tables"


@all_pages
def test_flags_exist(page: Path) -> None:
    known = {flag(name) for verb in COMMANDS.values() for name in inspect.signature(verb).parameters}
    known |= {flag(name) for name in {**INPUTS, **OUTPUTS, **CHECK, **COMPARE, **Settings.types()}}
    options = {option.name for name in methods.available() for option in methods.describe(name).options}
    known |= {f"--method.{name.replace('_', '-')}" for name in options}
    known |= {f"--method.no-{name.replace('_', '-')}" for name in options}
    known |= {name.replace("--", "--no-", 1) for name in known} | OTHERS
    known |= PLANNED.get(page.relative_to(ROOT).as_posix(), set())
    used = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", prose(page)))
    assert used - known == set()


@all_pages
def test_links_and_pictures_exist(page: Path) -> None:
    """`make docs` checks links between pages too, but neither pictures nor README and CONTRIBUTING."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for target in targets:
        path = target.partition("#")[0]
        if path and not re.match(r"\w+:", path):
            assert (page.parent / path).exists(), target


@all_pages
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:semipose|tests|benchmarks)/[\w/]+(?:\.py|/)?)`", prose(page))
    missing = [name for name in named if not (ROOT / name).exists() and name not in EXAMPLES]
    assert missing == []


@all_pages
def test_nothing_is_named_that_readers_do_not_have(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"/(?:home|root|work|tmp|Users)/|\blocalhost\b", text) == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 105


def test_pictures_are_small() -> None:
    pictures = [file for file in (DOCS / "pictures").iterdir() if file.is_file()]
    assert pictures
    assert {file.name: file.stat().st_size for file in pictures if file.stat().st_size > 200_000} == {}


def test_all_pages_are_in_the_navigation_and_in_llms_txt() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert set(leaves(config["project"]["nav"])) == pages
    listed = re.findall(r"\]\(([^)]+\.html)\)", (DOCS / "llms.txt").read_text(encoding="utf-8"))
    assert set(listed) == {page.removesuffix(".md") + ".html" for page in pages}


def leaves(entry: object) -> list[str]:
    """The pages of a navigation entry."""
    if isinstance(entry, str):
        return [entry]
    assert isinstance(entry, dict | list)
    return [leaf for part in (entry.values() if isinstance(entry, dict) else entry) for leaf in leaves(part)]


def test_every_method_has_a_page_with_its_options() -> None:
    for name in methods.available():
        page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {name}\n")
        assert f"<!-- options {name} -->" in page
    assert "<!-- methods -->" in (DOCS / "methods" / "index.md").read_text(encoding="utf-8")


def test_the_architecture_page_has_the_import_order() -> None:
    page = DOCS / "architecture.md"
    order = next(block for block in blocks_of("text", (page,)))
    rows = [set(line.split()) for line in order.text.splitlines()]
    assert rows == [layer - {"__main__", "__init__"} for layer in LAYERS if layer - {"__main__", "__init__"}]


def test_the_architecture_page_describes_every_package() -> None:
    packages = {file.parent.name for file in (ROOT / "semipose").glob("*/__init__.py")}
    described = re.findall(r"^\| `(\w+)` \|", (DOCS / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(described) == packages
    assert len(described) == len(packages)


@all_pages
def test_words_are_those_of_the_field(page: Path) -> None:
    """Old names, British spelling, and words that make a sentence a riddle."""
    old = r"twins?|lessons?|drawn (?:people|figures)|nobody|somebody|everybody|whoever|whom|of which"
    spelling = r"(?:un)?labelled|colour\w*|centres?|centred|behaviour"
    written = re.sub(r"<!-- ([\w ]+) -->\n.*?<!-- /\1 -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(rf"\b(?:{old}|{spelling})\b", written, re.IGNORECASE) == []
