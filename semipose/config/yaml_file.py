"""`--config FILE.yaml`: keys are the flags without their dashes (`batch-size` or `batch_size`, `method.decay`).

Strict: unknown keys, keys given twice and unusable values are collected, each with its line, and refused together.
Paths count from the current folder, as they do in flags.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from semipose.config.parsing import parse_value
from semipose.errors import UsageError, suggestion


@dataclass
class Config:
    """A yaml file's entries: name -> value as yaml reads it, and its line. `faults` grows as it is checked."""

    path: Path
    entries: dict[str, object] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: str | Path) -> "Config":
        """Read `path`; what is not a mapping or not yaml at all is a UsageError, a key given twice a fault."""
        config = cls(Path(path))
        try:
            # Nodes, not values: they know their lines, and a key given twice is still there twice.
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
        """Where `name` stands: "file.yaml:3"."""
        return f"{self.path}:{self.lines[name]}"

    def typed(self, types: Mapping[str, Any]) -> dict[str, Any]:
        """The usable entries as the types of `types`; whatever else there is becomes a fault."""
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
