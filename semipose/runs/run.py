"""A run folder from the inside: what was asked (run.json), what happened (log.jsonl), how good it became."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semipose.errors import DataError, UsageError
from semipose.pose.skeleton import Skeleton
from semipose.system.files import read_json

if TYPE_CHECKING:
    from semipose.inference.model import Model

FORMAT = 2
"""Of run.json. Format 1 had other names: `twin` for the baseline, and options of methods that were renamed."""
NEEDED = ("method", "settings", "skeleton", "network", "input_size", "data")


class Run:
    """The results of one training, read from its folder; nothing is changed by looking."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config: dict[str, Any] = self._config()

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _config(self) -> dict[str, Any]:
        file = self.folder / "run.json"
        if not file.is_file():
            is_checkpoint = self.folder.suffix == ".safetensors"
            remedy = (
                "give the folder of the run, not the checkpoint in it"
                if is_checkpoint
                else "give the folder that `semipose train` wrote (the one it named, with run.json in it)"
            )
            raise DataError(f"{self.folder} is not a run: {file.name} was not found there; {remedy}.")
        config = read_json(file)
        found = config.get("format")
        if found != FORMAT:
            raise DataError(
                f"{file}: format {found!r}, and this version of semipose reads {FORMAT}. It was written by semipose "
                f"{config.get('semipose', 'of unknown version')}: open it with that version, or train again. Its "
                "checkpoints (checkpoints/*.safetensors) can be used as they are."
            )
        missing = [key for key in NEEDED if key not in config]
        if missing:
            raise DataError(f"{file}: lacks {', '.join(missing)}; the file is damaged or was edited.")
        return config

    @property
    def metrics(self) -> dict[str, Any] | None:
        """metrics.json, or None while the training has not finished."""
        file = self.folder / "metrics.json"
        return read_json(file) if file.is_file() else None

    @cached_property
    def skeleton(self) -> Skeleton:
        """The keypoints this run was trained for."""
        return Skeleton.from_dict(self.config["skeleton"])

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl in order; a last line cut off by a crash is left out."""
        file = self.folder / "log.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise DataError(f"{file}, line {number}: not json ({error}); expected an object.") from error
        return rows

    def checkpoint(self, which: str = "best") -> Path:
        """The file of a network: "best" (the deployed one), "last" (the same network at the end), or by its name.

        "student" is the best student, "last-student" the last one. Without validation people nothing could be
        chosen: "best" is then the last one too.
        """
        if which == "best" and self.metrics is not None:
            return self._existing(Path(str(self.metrics["deployed"]["file"])).stem)
        if which in ("best", "last"):
            return self._existing(f"{which}-{self.deployed}")
        return self._existing(which if which.startswith(("best-", "last-")) else f"best-{which}")

    @property
    def deployed(self) -> str:
        """The name of the network that the run hands out."""
        deployed = (self.metrics or {}).get("deployed")
        if deployed is not None:
            return str(deployed["network"])
        names = self._saved("best")
        if len(names) == 1:
            return names[0]
        found = f"saved so far: {', '.join(names)}" if names else "no checkpoint is saved yet"
        raise DataError(
            f"{self.folder}: the training has not finished, so no network is deployed; {found}. "
            f"Finish it with `semipose resume {self.folder}`, or name a network."
        )

    def model(self, which: str = "best") -> "Model":
        """The network as a model: "best" (default) or "last" of the deployed one, or a network's name."""
        from semipose.inference.model import Model

        return Model.load(self.checkpoint(which))

    def _saved(self, which: str) -> list[str]:
        folder = self.folder / "checkpoints"
        return sorted(file.stem.removeprefix(f"{which}-") for file in folder.glob(f"{which}-*.safetensors"))

    def _existing(self, stem: str) -> Path:
        """The checkpoint `stem`; a name that would lead out of the folder is refused before it is looked at."""
        kind, _, name = stem.partition("-")
        known = self._saved(kind)
        if not re.fullmatch(r"[\w.-]+", name) or name not in known:
            raise UsageError(
                f"{self.folder}: no checkpoint {stem!r}; found {', '.join(known) or 'none'}. "
                "Expected best, last, or one of these names."
            )
        file = self.folder / "checkpoints" / f"{stem}.safetensors"
        if not file.resolve().is_relative_to(self.folder.resolve()):
            raise DataError(f"{file}: is a link out of the run's folder; copy the file there instead.")
        return file
