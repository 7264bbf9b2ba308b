"""The json files of a comparison as typed records: job files and comparison.json."""

from typing import Any

import msgspec

from semipose.config.settings import Settings
from semipose.metrics.intervals import Difference
from semipose.runs.records import SettingRecord, settings_of


class JobRecord(msgspec.Struct):
    """jobs/NAME.json: a run of the comparison. `data` and `test` are arguments of `semipose.load`.

    `test` replaces the validation people when the run is scored; it is empty without test people.
    """

    run: str
    data: dict[str, Any]
    test: dict[str, Any]
    settings: dict[str, SettingRecord]
    options: dict[str, Any]

    @property
    def training(self) -> Settings:
        """Settings of the training."""
        return settings_of(self.settings)

    @property
    def scored_on(self) -> str:
        """Name of the people that the run is scored on, "val" or "test"."""
        return "test" if self.test else "val"


class ScoredPeople(msgspec.Struct):
    """The people that all rows are scored on: "val" or "test", how many, and their file."""

    name: str
    people: int
    source: str


class Spread(msgspec.Struct):
    """Mean and sample standard deviation over the seeds, and the value of each; None where not measured."""

    mean: float | None
    spread: float | None
    each: list[float | None]


class Cost(msgspec.Struct):
    """Cost of a run as the mean over the seeds; memory, in bytes, is their maximum. Evaluations do not count."""

    updates: float
    images_seen: float
    seconds: float
    cpu_seconds: float | None
    device: str
    chip: str
    peak_ram: int | None
    peak_device: int | None
    networks_trained: int
    networks_at_inference: int


class Row(msgspec.Struct):
    """A row of the table: one method, on one amount of labels, over all seeds.

    `labeled` and `unlabeled` count people. `curve` is (update, mean of the metric on val). `deployed` are the names of
    the deployed networks.
    """

    row: str
    amount: str
    method: str
    options: dict[str, Any]
    seeds: list[int]
    runs: list[str]
    labeled: int
    unlabeled: int
    deployed: list[str]
    values: dict[str, Spread]
    last: Spread
    against_baseline: Difference | None
    per_keypoint: dict[str, Spread]
    curve: list[tuple[int, float]]
    cost: Cost


class Comparison(msgspec.Struct):
    """comparison.json: the shared protocol and all rows; `failed` jobs with the reason, and jobs still `open`.

    `category` is what the labels name the people: "person", "mouse".
    """

    format: int
    category: str
    metric: str
    protocol: dict[str, Any]
    scored_on: ScoredPeople
    rows: list[Row]
    failed: dict[str, str]
    open: list[str]
