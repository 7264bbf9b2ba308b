"""Griffe extension of the documentation's build: `>>>` examples in docstrings become code blocks."""

import re
from typing import Any

import griffe

# A prompt and what follows it, up to an empty line.
EXAMPLE = re.compile(r"(?:^>>> .*\n?)(?:^(?!\s*$).*\n?)*", re.MULTILINE)


class DocstringExamples(griffe.Extension):
    """Puts fences around examples before docstrings are rendered."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring and ">>>" in obj.docstring.value:
            text = re.sub(r" *# doctest: \+\w+", "", obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)
