"""Rules of the prose: docstrings and messages in short sentences of plain technical English.

`python -m tests.test_prose [PACKAGE]` lists what breaks the rules today.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "semipose"
# Violations that a package may have, by package. None has any today; keep it so.
BUDGET: dict[str, int] = {}
MAX_WORDS = 25
MAX_MESSAGE_WORDS = 30

# A docstring begins with a verb phrase ("Load the weights.") or a noun phrase ("Boxes of all people.").
LEADS = {"what", "who", "whose", "whom", "how", "where", "as", "so", "that", "told"}
RIDDLES = re.compile(r"\b(whom|whoever|nobody|somebody|everybody)\b", re.IGNORECASE)
# Points that end no sentence.
ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|et al|cf|vs|etc|Eq|Fig|Sec|Tab|No)\.(?=\s)")
BULLET = re.compile(r"^\s*([-*•]|\d+\.) ")
SENTENCE_END = re.compile(r"(?<=[.?!])[)\"']*\s+")


class Violation(NamedTuple):
    """A sentence that breaks a rule."""

    line: int
    rule: str
    text: str


def sentences(text: str) -> Iterator[str]:
    """Sentences of a cleaned docstring or message, without code; inline code is one word."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"^ *>>>.*?(?=\n\s*\n|\Z)", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`+[^`]+`+", "`code`", text)
    text = ABBREVIATIONS.sub(r"\1", text)
    for block in blocks(text):
        yield from (part for part in SENTENCE_END.split(block) if count_words(part))


def blocks(text: str) -> Iterator[str]:
    """Paragraphs and bullets, each on one line."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if block and (not line.strip() or BULLET.match(line)):
            yield " ".join(block)
            block = []
        if line.strip():
            block.append(BULLET.sub("", line).strip())


def count_words(sentence: str) -> int:
    return sum(1 for word in sentence.split() if re.search(r"\w", word))


def docstring_violations(text: str, line: int) -> Iterator[Violation]:
    found = list(sentences(text))
    if found:
        lead = re.split(r"[^\w'-]", found[0], maxsplit=1)[0].lower()
        if lead in LEADS:
            yield Violation(line, "begins with neither a verb nor a noun", found[0])
        if RIDDLES.search(found[0]):
            yield Violation(line, "first sentence is a riddle", found[0])
    for sentence in found:
        if (count := count_words(sentence)) > MAX_WORDS:
            yield Violation(line, f"{count} words", sentence)


def message_violations(text: str, line: int) -> Iterator[Violation]:
    for sentence in sentences(text):
        if RIDDLES.search(sentence):
            yield Violation(line, "message with nobody, somebody, everybody, whom", sentence)
        if (count := count_words(sentence)) > MAX_MESSAGE_WORDS:
            yield Violation(line, f"message of {count} words", sentence)


def messages(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Text and line of the messages of errors that are raised and of `console.print`; {} stands for a value."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else node
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func)
        if (isinstance(node, ast.Raise) and name.endswith("Error")) or name.endswith(("console.print", "echo")):
            yield from ((rendered(argument), call.lineno) for argument in call.args)


def rendered(node: ast.expr) -> str:
    """The text of an expression, with {} where a value is put in; of two alternatives both."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(rendered(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return rendered(node.left) + rendered(node.right)
    if isinstance(node, ast.IfExp):
        return f"{rendered(node.body)}\n\n{rendered(node.orelse)}"
    return "`{}`"


def violations(file: Path) -> list[Violation]:
    """All violations in the docstrings and messages of a file."""
    tree = ast.parse(file.read_text("utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            found += docstring_violations(text, node.body[0].lineno)
    for text, line in messages(tree):
        found += message_violations(text, line)
    return found


def packages() -> dict[str, list[Path]]:
    """Files by package; each module at the root is a package of its own."""
    found: dict[str, list[Path]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        found.setdefault(file.relative_to(PACKAGE).parts[0].removesuffix(".py"), []).append(file)
    return found


def report(package: str) -> list[str]:
    return [
        f"{file.relative_to(PACKAGE.parent)}:{line}: {rule}: {text}"
        for file in packages()[package]
        for line, rule, text in violations(file)
    ]


@pytest.mark.parametrize("package", sorted(packages()))
def test_prose_keeps_its_budget(package: str) -> None:
    found, allowed = report(package), BUDGET.get(package, 0)
    assert len(found) <= allowed, f"{package}: {len(found)} violations, allowed {allowed}\n" + "\n".join(found)
    assert len(found) == allowed, f"{package} has improved: lower its number in BUDGET to {len(found)}"


def test_the_budget_names_packages_that_exist() -> None:
    assert BUDGET.keys() <= packages().keys()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("What moves points.", "neither a verb nor a noun"),
        ("Who is found.\n\nThe rest is plain.", "neither a verb nor a noun"),
        ("Told once before training.", "neither a verb nor a noun"),
        ("Count, so that nobody is lost.", "riddle"),
        ("Load. " + "word " * 26 + "end.", "27 words"),
        ("Load:\n\n- short\n- " + "word " * 26, "26 words"),
    ],
)
def test_the_rules_for_docstrings_bite(text: str, rule: str) -> None:
    assert [rule in violation.rule for violation in docstring_violations(text, 1)] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "Load the weights.",
        "`so` many.",
        "Boxes (N, 4), as x, y, w, h. " + "One more sentence. " * 20,
        "Follow Li et al. (2020), e.g. theirs. " * 5,
        "Load.\n\n>>> call(" + "word " * 30 + ")\n1\n\nThe end.",
        "Load:\n\n- " + "\n- ".join(["ten words and the list may be of any length"] * 5),
        "Load `" + "word " * 40 + "`.",
    ],
)
def test_plain_docstrings_pass(text: str) -> None:
    assert list(docstring_violations(text, 1)) == []


def test_the_rules_for_messages_bite() -> None:
    code = f"""
raise DataError(f"{{path}}: nobody is labeled. " + "Label them.")
raise UsageError("{"word " * 31}")
console.print("All is well." if done else "Somebody is missing.")
raise AssertionError
"""
    found = [violation.rule for text, line in messages(ast.parse(code)) for violation in message_violations(text, line)]
    assert sorted(found) == [
        "message of 31 words",
        "message with nobody, somebody, everybody, whom",
        "message with nobody, somebody, everybody, whom",
    ]


if __name__ == "__main__":
    for name in sys.argv[1:] or packages():
        print(*report(name), sep="\n")
