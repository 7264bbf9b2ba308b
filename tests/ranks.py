"""Runs a function in two processes that train together, as torchrun would start them; torch is imported only once."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

COUNT = 2
# Forked from a server that has torch loaded but has computed nothing: a start takes milliseconds, and is safe.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["semipose.engine.setup", "torch._dynamo", "tests.training"])


def together(function: Callable[..., Any], *arguments: Any, seconds: float = 60) -> list[Any]:
    """What `function(*arguments)` returns in each process; an exception or exit code comes back as text.

    `function` stands at the top of a module. Fails where a process does not end within `seconds`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [PROCESSES.Pipe(duplex=False) for _ in range(COUNT)]
    processes = [
        PROCESSES.Process(target=_run, args=(rank, port, pipe[1], function, arguments))
        for rank, pipe in enumerate(pipes)
    ]
    try:
        for process, (_, sending) in zip(processes, pipes, strict=True):
            process.start()
            sending.close()  # so that reading ends when the process does
        return [_answer(process, receiving, seconds) for process, (receiving, _) in zip(processes, pipes, strict=True)]
    finally:
        for process in processes:
            process.kill()


def _answer(process: multiprocessing.process.BaseProcess, receiving: Connection, seconds: float) -> Any:
    assert receiving.poll(seconds), f"{process.name} has not ended after {seconds} s"
    try:
        return receiving.recv()
    except EOFError:
        process.join(seconds)
        return f"exit code {process.exitcode}"


def _run(rank: int, port: int, pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(COUNT),
        LOCAL_WORLD_SIZE=str(COUNT),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    try:
        result = function(*arguments)
    except (Exception, SystemExit) as error:
        result = ": ".join([type(error).__name__, str(error), *getattr(error, "__notes__", [])])
    pipe.send(result)
