"""`--config FILE.yaml`: keys are the flags without their dashes (`batch-size` or `batch_size`, `method.decay`).

Strict: unknown keys, repeated keys and invalid values are collected, each with its line, and reported together.
Paths are relative to the current folder, as in flags.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from semipose.config.parsing import parse_value, suggestion
from semipose.errors import UsageError


@dataclass
class Config:
    """A yaml file's entries (name -> value) and their lines; `faults` collects what is wrong with them."""

    path: Path
    entries: dict[str, object] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: str | Path) -> "Config":
        """Read `path`; raise UsageError if it is no yaml mapping. A repeated key is a fault."""
        config = cls(Path(path))
        try:
            # Nodes, not values: they have line numbers and keep repeated keys.
            loader = yaml.SafeLoader(config.path.read_text("utf-8"))
            root = loader.get_single_node()
            pairs = [] if root is None else root.value
            if root is not None and not isinstance(root, yaml.MappingNode):
                raise UsageError(f"{path}: expected lines of `name: value`, found {root.tag.rpartition(':')[2]}")
            for key, value in pairs:
                name, content = (loader.construct_object(node, deep=True) for node in (key, value))
                config._add(str(name), content, key.start_mark.line + 1)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"--config {path}: {error}") from error
        return config

    def _add(self, key: str, value: object, line: int) -> None:
        name = key.replace("-", "_")
        if name in self.entries:
            self.faults.append(f"{self.path}:{line}: {key} is already given in line {self.lines[name]}")
        self.entries[name], self.lines[name] = value, line

    def place(self, name: str) -> str:
        """Return file and line of `name`: "file.yaml:3"."""
        return f"{self.path}:{self.lines[name]}"

    def typed(self, types: Mapping[str, Any]) -> dict[str, Any]:
        """Return the valid entries converted to `types`; all others become faults."""
        values = {}
        for name, value in self.entries.items():
            if name not in types:
                self.faults.append(f"{self.place(name)}: unknown name {name!r}{suggestion(name, types)}")
                continue
            try:
                values[name] = parse_value(value, types[name])
            except ValueError as error:
                self.faults.append(f"{self.place(name)}: {name}: {error}")
        return values
