"""The json files of a run as typed records: run.json, metrics.json, updates.json and the rows of log.jsonl.

Files are validated once, when they are read. Unknown keys are ignored, so that a newer version may add some.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from semipose.config.settings import Settings
from semipose.errors import DataError
from semipose.metrics.intervals import Difference
from semipose.system.files import read_json

if TYPE_CHECKING:
    from semipose.metrics.score import Score

T = TypeVar("T")


class SettingRecord(msgspec.Struct):
    """One setting: its value, where it came from (flag, yaml, data, default) and why."""

    value: Any
    source: str
    reason: str


class StreamRecord(msgspec.Struct):
    """The labeled, unlabeled or validation people of a run."""

    people: int
    images: int
    source: str
    box_source: str


class DataRecord(msgspec.Struct):
    """The data of a run. `arguments` are those of `semipose.load`; None for data made otherwise.

    `fingerprint` identifies people and labels, `files` the image files.
    """

    labeled: StreamRecord
    unlabeled: StreamRecord | None
    val: StreamRecord | None
    val_source: str
    notes: list[str]
    arguments: dict[str, Any] | None
    fingerprint: str
    files: str


class PhaseRequest(msgspec.Struct):
    """A later phase of training, as it was requested: a `duration` such as "6" or "2h"."""

    duration: str
    started: str | None = None


class Environment(msgspec.Struct, kw_only=True):
    """Versions and hardware: a resumed run ends in the same weights only where all of these are the same."""

    versions: dict[str, str | None]
    device: str
    chip: str
    threads: int
    precision: str
    processes: int


class RunRecord(Environment, kw_only=True, omit_defaults=True):
    """run.json: everything that was decided before training, and the phases requested since."""

    format: int
    semipose: str
    command: list[str]
    started: str
    method: str
    method_settings: dict[str, Any]
    baseline: bool
    settings: dict[str, SettingRecord]
    skeleton: dict[str, Any]
    network: dict[str, Any]
    input_size: tuple[int, int]
    data: DataRecord
    longer: list[PhaseRequest] = []

    @property
    def durations(self) -> list[str]:
        """The duration of each phase, as requested."""
        return [str(self.settings["duration"].value), *(phase.duration for phase in self.longer)]


class ScoreRecord(msgspec.Struct):
    """A `Score` without the evidence that paired comparisons need."""

    values: dict[str, float]
    per_keypoint: dict[str, dict[str, float]]
    intervals: dict[str, tuple[float, float]]
    counts: dict[str, int]
    notes: list[str]

    @classmethod
    def of(cls, score: "Score") -> "ScoreRecord":
        """Record of `score`."""
        return msgspec.convert(score.to_dict(), cls)


class NetworkScores(msgspec.Struct):
    """Scores of a network on val: of its best checkpoint and of its last one."""

    best: ScoreRecord
    last: ScoreRecord


class Deployed(msgspec.Struct):
    """The network that the run hands out, its checkpoint file, and the rule that chose it."""

    network: str
    file: str
    update: int
    rule: str


class BaselineRecord(msgspec.Struct):
    """The best supervised baseline on val."""

    folder: str
    network: str
    score: ScoreRecord


class CropsRecord(msgspec.Struct):
    """Storage of the decoded crops of a stream (ram, disk or none), and their bytes."""

    kept: str
    bytes: int


class MemoryRecord(msgspec.Struct):
    """Memory of a run, in bytes."""

    crops: dict[str, CropsRecord]
    peak_ram: int | None
    peak_device: int | None


class Metrics(msgspec.Struct, omit_defaults=True):
    """metrics.json: scores on val by network, the deployed network, and its difference to the supervised baseline.

    `val` is None without validation people; `baseline` and `against_baseline` are None where none was trained.
    """

    metric: str
    deployed: Deployed
    val: dict[str, NetworkScores] | None
    unreadable_unlabeled: list[str]
    memory: MemoryRecord
    baseline: BaselineRecord | None = None
    against_baseline: Difference | None = None

    @property
    def deployed_scores(self) -> NetworkScores | None:
        """Scores of the deployed network; None without validation people."""
        return None if self.val is None else self.val[self.deployed.network]


class PhaseRecord(msgspec.Struct):
    """A phase that has begun, see `semipose.runs.phases.Phase`."""

    start: int
    updates: int
    end: int | None = None


class UpdatesRecord(msgspec.Struct):
    """updates.json: the phases that have begun."""

    phases: list[PhaseRecord]


class TrainRow(msgspec.Struct, tag_field="kind", tag="train"):
    """Numbers of one update in log.jsonl; None stands for a number that was not finite."""

    update: int
    losses: dict[str, float | None]
    signals: dict[str, float | None]
    lr: float
    images_per_s: float
    data_wait: float
    cores: float | None = None
    skipped: int = 0


class NetworkValues(msgspec.Struct):
    """Metrics of one network in an evaluation during training."""

    values: dict[str, float]


class EvalRow(msgspec.Struct, tag_field="kind", tag="eval"):
    """An evaluation on val in log.jsonl, by network."""

    update: int
    networks: dict[str, NetworkValues]


class EventRow(msgspec.Struct, tag_field="kind", tag="event"):
    """An event in log.jsonl, in words."""

    update: int
    text: str


LogRow = TrainRow | EvalRow | EventRow


def setting_records(settings: Settings) -> dict[str, SettingRecord]:
    """All `settings` with their sources, as run.json holds them."""
    return {name: SettingRecord(**row) for name, row in settings.record().items()}


def settings_of(records: Mapping[str, SettingRecord]) -> Settings:
    """Settings as `setting_records` wrote them."""
    return Settings.from_record({name: msgspec.structs.asdict(row) for name, row in records.items()})


def to_json(record: Any) -> Any:
    """Convert `record` to dicts, sequences, numbers and text, which json can hold."""
    return msgspec.to_builtins(record, enc_hook=os.fspath)


def read_json_as(file: Path, kind: type[T]) -> T:
    """The json object in `file` as a record of type `kind`; raises DataError that names the wrong field."""
    return parse_record(read_json(file), kind, str(file))


def parse_record(value: Any, kind: type[T], source: str) -> T:
    """The parsed json `value` of `source` as a record of type `kind`; raises DataError that names the wrong field."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise DataError(
            f"{source}: {_explained(str(error))}. semipose writes this file; it is damaged or was edited. Restore it, "
            "or train again."
        ) from error


def parse_log_row(line: str, source: str) -> LogRow:
    """A line of log.jsonl. Raises DataError for a wrong field and ValueError for a line that is not json."""
    try:
        return msgspec.json.decode(line, type=LogRow)
    except msgspec.ValidationError as error:
        raise DataError(f"{source}: {_explained(str(error))}. Remove the line, or restore the file.") from error
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def _explained(reason: str) -> str:
    """msgspec's reason in our words: the field, what was found there and what was expected."""
    message, _, path = reason.partition(" - at `")
    # "$.data.labeled" -> "data.labeled"; "key in `$.val`" keeps its words.
    place = path.rstrip("`").replace("$.", "").replace("$", "")
    missing = re.fullmatch(r"Object missing required field `(.+)`", message)
    if missing:
        field = ".".join(part for part in (place, missing[1]) if part)
        return f"lacks {field}"
    types = re.fullmatch(r"Expected `(.+)`, got `(.+)`", message)
    said = f"found {types[2]}, expected {types[1]}" if types else message
    return f"{place or 'at the top'}: {said}"
