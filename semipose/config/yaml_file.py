"""Reader of `--config FILE.yaml`. Keys are flags without dashes: `batch-size` or `batch_size`, `method.decay`.

Unknown keys, repeated keys and invalid values are collected, each with its line, and reported together. Paths are
relative to the current folder, as in flags.
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
    """Entries of a yaml file (name -> value, name -> line), and the `faults` found in them so far."""

    path: Path
    entries: dict[str, object] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: str | Path) -> "Config":
        """Read `path`. Raises UsageError for a file that is not a yaml mapping; a repeated key becomes a fault."""
        config = cls(Path(path))
        try:
            # Nodes keep line numbers and repeated keys; values would not.
            loader = yaml.SafeLoader(config.path.read_text("utf-8"))
            root = loader.get_single_node()
            pairs = [] if root is None else root.value
            if root is not None and not isinstance(root, yaml.MappingNode):
                raise UsageError(f"--config {path}: found {root.tag.rpartition(':')[2]}, expected lines `name: value`.")
            for key, value in pairs:
                name, content = (loader.construct_object(node, deep=True) for node in (key, value))
                config._add(str(name), content, key.start_mark.line + 1)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"--config {path}: {error}") from error
        return config

    def _add(self, key: str, value: object, line: int) -> None:
        name = key.replace("-", "_")
        if name in self.entries:
            self.faults.append(f"{self.path}:{line}: {key} is already set in line {self.lines[name]}; drop one")
        self.entries[name], self.lines[name] = value, line

    def place(self, name: str) -> str:
        """File and line of `name`: "file.yaml:3"."""
        return f"{self.path}:{self.lines[name]}"

    def typed(self, types: Mapping[str, Any]) -> dict[str, Any]:
        """Return the valid entries, converted to `types`; other entries become faults."""
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
