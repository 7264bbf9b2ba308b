"""Jobs side by side: how many, on which GPU, how they end, and how they are stopped."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from semipose.comparison import launch
from semipose.comparison.launch import Cluster, Local, Process, run_all
from semipose.errors import UsageError


class Jobs:
    """Stands for a launcher; a job ends after it was asked `asks[file]` times (default 2), with `how[file]`."""

    def __init__(self, asks: dict[str, int] | None = None, how: dict[str, str] | None = None) -> None:
        self.asks, self.how = asks or {}, how or {}
        self.events: list[str] = []
        self.places: dict[str, int] = {}
        self.most = self.running = 0

    def __call__(self, file: Path, place: int) -> "Jobs.One":
        self.running += 1
        self.most = max(self.most, self.running)
        self.places[file.name] = place
        return Jobs.One(self, file.name)

    class One:
        def __init__(self, jobs: "Jobs", name: str) -> None:
            self.jobs, self.name, self.left = jobs, name, jobs.asks.get(name, 2)

        def ended(self) -> str | None:
            self.left -= 1
            if self.left > 0:
                return None
            self.jobs.running -= self.left == 0
            return self.jobs.how.get(self.name, "")

        def stop(self) -> None:
            self.jobs.events.append(f"stop {self.name}")
            self.left = 2

        def kill(self) -> None:
            self.jobs.events.append(f"kill {self.name}")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "POLL_SECONDS", 0.001)


def files(names: str) -> list[Path]:
    return [Path(name) for name in names]


def test_so_many_run_side_by_side_and_a_crash_stops_no_other() -> None:
    jobs, told = Jobs({"a": 5, "b": 2}, {"b": "exit code 1: no"}), []
    run_all(files("abcd"), jobs, 2, lambda file, how: told.append((file.name, how)))
    assert jobs.most == 2
    assert sorted(told) == [("a", ""), ("b", "exit code 1: no"), ("c", ""), ("d", "")]
    assert jobs.places["c"] == jobs.places["b"]  # the place that became free


def test_a_signal_stops_those_that_run_once_and_starts_no_more() -> None:
    jobs = Jobs({"a": 10**9, "b": 1, "c": 10**9})

    def tell(file: Path, how: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_all(files("abcd"), jobs, 2, tell)
    assert jobs.events == ["stop a"]
    assert set(jobs.places) == {"a", "b"}


def test_when_the_caller_fails_nothing_is_left_running() -> None:
    jobs = Jobs({"a": 10**9, "b": 1})

    def tell(file: Path, how: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_all(files("ab"), jobs, 2, tell)
    assert jobs.events == ["kill a"]


@pytest.mark.parametrize(
    ("count", "shown", "device", "expected"),
    [
        (4, None, "auto", ["0", "1", "2", "0"]),  # three places on the first three
        (2, None, "cuda", ["0", "1", "0", "0"]),
        (2, "5,7", "auto", ["5", "7", "5", "5"]),
        (1, None, "auto", [None] * 4),
        (0, None, "auto", [None] * 4),
        (4, None, "cuda:1", [None] * 4),  # the user has chosen
        (4, None, "cpu", [None] * 4),
    ],
)
def test_each_job_has_a_gpu_of_its_own_and_its_share_of_the_threads(
    count: int, shown: str | None, device: str, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    monkeypatch.setattr(launch, "Process", lambda file, environment: environment)
    start: Callable[..., dict[str, str]] = Local(3, device)  # type: ignore[assignment]
    found = [start(Path("job.json"), place) for place in (0, 1, 2, 0)]
    assert [row["OMP_NUM_THREADS"] for row in found] == ["2"] * 4
    given = [row["CUDA_VISIBLE_DEVICES"] if row.get("CUDA_VISIBLE_DEVICES") != shown else None for row in found]
    assert given == expected


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("pass", ""),
        ("print('on the way'); import sys; sys.exit('semipose: no room')", "exit code 1: semipose: no room"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9: it printed nothing"),
    ],
)
def test_how_a_process_ended_is_told_with_its_last_words(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    process = Process(tmp_path / "job.json", dict(os.environ))
    process.process.wait()
    how = process.ended()
    assert how is not None
    assert how.startswith(told)
    assert (str(tmp_path / "job.log") in how) == bool(told)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (["timeout_min"], "--cluster timeout_min: expected NAME=VALUE"),
        (["timeout_mni=5"], "timeout_mni"),
        (["slurm_partitoin=gpu"], "partitoin"),
        (["timeout_min=soon"], "timeout_min"),
    ],
)
def test_parameters_that_submitit_does_not_know_are_refused(parameters: list[str], told: str, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(UsageError, match=told):
        Cluster(tmp_path, parameters)


def test_without_submitit_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'semipose\[cluster\]'"):
        Cluster(tmp_path, [])
