"""The documentation as data: its pages and their fenced blocks, and the commands in these."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
GPU = "<!-- gpu -->"
FENCE = re.compile(r'^(?P<indent> *)```(?P<language>\w+)?(?: title="(?P<title>[^"]+)")?\s*$')
ASSIGNMENT = re.compile(r"^[A-Z_]+=")


@dataclass(frozen=True)
class Block:
    """A fenced block of `page`: its language, the file that `title` names, and its text without the fences."""

    page: Path
    line: int
    language: str
    title: str
    text: str
    gpu: bool

    @property
    def id(self) -> str:
        """Where it stands: "docs/own_data.md:95"."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command, without comments and environment variables; a backslash continues a line."""
        found = []
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and ASSIGNMENT.match(words[0]):
                words.pop(0)
            if words:
                found.append(words)
        return found


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        start = FENCE.match(lines[number])
        number += 1
        if start is None:
            continue
        first, indent = number, len(start["indent"])
        while lines[number].strip() != "```":
            number += 1
        text = "".join(f"{line[indent:]}\n" for line in lines[first:number])
        gpu = first >= 2 and lines[first - 2].strip() == GPU
        yield Block(page, first, start["language"] or "", start["title"] or "", text, gpu)
        number += 1


def blocks_of(language: str, pages: tuple[Path, ...] = PAGES) -> list[Block]:
    """The blocks in one language."""
    return [block for page in pages for block in blocks(page) if block.language == language]


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks and html comments."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
