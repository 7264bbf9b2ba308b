"""A run folder: its settings (run.json), its log (log.jsonl), its scores (metrics.json) and its networks."""

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from semipose.config.settings import Settings
from semipose.errors import DataError, UsageError
from semipose.pose.skeleton import Skeleton
from semipose.runs.records import LogRow, Metrics, RunRecord, parse_log_row, parse_record, read_json_as, settings_of
from semipose.system.files import read_json

if TYPE_CHECKING:
    from semipose.inference.model import Model

FORMAT = 2
"""Version of run.json and metrics.json. Format 1 had other keys, and other names for options of methods."""


class Run:
    """Results of one training, read from its folder; reading changes nothing.

    `record` is run.json: everything that was decided before training.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.record: RunRecord = _read_run(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def metrics(self) -> Metrics | None:
        """metrics.json, or None while the training has not finished."""
        file = self.folder / "metrics.json"
        return read_json_as(file, Metrics) if file.is_file() else None

    @cached_property
    def settings(self) -> Settings:
        """Settings of the training."""
        return settings_of(self.record.settings)

    @cached_property
    def skeleton(self) -> Skeleton:
        """Skeleton that the run was trained for."""
        return Skeleton.from_dict(self.record.skeleton)

    def log(self) -> list[LogRow]:
        """Rows of log.jsonl in order; a last line cut off by a crash is left out."""
        file = self.folder / "log.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        rows: list[LogRow] = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(parse_log_row(line, f"{file}, line {number}"))
            except ValueError as error:
                if number < len(lines):
                    raise DataError(f"{file}, line {number}: not json ({error}); expected an object.") from error
        return rows

    def checkpoint(self, which: str = "best") -> Path:
        """File of a network: "best" (the deployed one), "last" (the same network at the end), or by its name.

        "student" is the best student, "last-student" the last one. Without validation people "best" is the last one
        too, because there is nothing to choose on.
        """
        if which == "best" and (metrics := self.metrics) is not None:
            return self._existing(Path(metrics.deployed.file).stem)
        if which in ("best", "last"):
            return self._existing(f"{which}-{self.deployed}")
        return self._existing(which if which.startswith(("best-", "last-")) else f"best-{which}")

    @property
    def deployed(self) -> str:
        """Name of the network that the run hands out."""
        if (metrics := self.metrics) is not None:
            return metrics.deployed.network
        names = self._saved("best")
        if len(names) == 1:
            return names[0]
        found = f"saved so far: {', '.join(names)}" if names else "no checkpoint is saved yet"
        raise DataError(
            f"{self.folder}: the training has not finished, so no network is deployed; {found}. "
            f"Finish it with `semipose resume {self.folder}`, or name a network."
        )

    def model(self, which: str = "best") -> "Model":
        """Load a network as a model: "best" (default) or "last" of the deployed one, or by its name."""
        from semipose.inference.model import Model

        return Model.load(self.checkpoint(which))

    def _saved(self, which: str) -> list[str]:
        folder = self.folder / "checkpoints"
        return sorted(file.stem.removeprefix(f"{which}-") for file in folder.glob(f"{which}-*.safetensors"))

    def _existing(self, stem: str) -> Path:
        """File of the checkpoint `stem`; refuses a name that leads out of the folder before it is opened."""
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


def _read_run(folder: Path) -> RunRecord:
    """The run.json in `folder`; the format is compared first, because other formats lack other fields."""
    file = folder / "run.json"
    if not file.is_file():
        is_checkpoint = folder.suffix == ".safetensors"
        remedy = (
            "give the folder of the run, not the checkpoint in it"
            if is_checkpoint
            else "give the folder that `semipose train` wrote (the one it named, with run.json in it)"
        )
        raise DataError(f"{folder} is not a run: {file.name} was not found there; {remedy}.")
    content = read_json(file)
    found = content.get("format")
    if found != FORMAT:
        raise DataError(
            f"{file}: format {found!r}, and this version of semipose reads {FORMAT}. It was written by semipose "
            f"{content.get('semipose', 'of unknown version')}: open it with that version, or train again. Its "
            "checkpoints (checkpoints/*.safetensors) can be used as they are."
        )
    return parse_record(content, RunRecord, str(file))
