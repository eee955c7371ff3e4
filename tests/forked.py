"""Processes of the project for tests, forked from a server that has imported it: they start in milliseconds.

A process has its own memory, signals, streams and exit code, and runs what `python -m MODULE …` or `python -c …` runs.
The server (this module as a program) starts with the first process, and ends with the process that uses it.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TextIO

ROOT = Path(__file__).parents[1]
IMPORTED = (
    "cli", *(f"replay.cli.{name}" for name in (
        "get", "help", "history", "inspect", "operate", "proofs", "rebuild", "statement", "trade", "transfer", "verify",
        "whatif",
    )),
    "kernel.log.backends.postgres", "kernel.log.backends.sqlite", "replay.host.http_server",
)  # fmt: skip
"""What the server imports: nothing that draws ids or reads the clock on import, which all processes would share."""
REQUEST_BYTES_MAX = 2**20


@functools.cache
def server() -> socket.socket:
    """Start the server; returns the socket for requests, whose end ends it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "tests.forked", str(theirs.fileno())]
        started = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
    atexit.register(started.wait)
    atexit.register(ours.close)
    return ours


class Forked:
    """A running process; has what tests need of `subprocess.Popen`."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> None:
        """Start a process with the interpreter's arguments, `-m MODULE …` or `-c PROGRAM …`, in the present directory.

        Its stdout and stderr are pipes, unless files are given.
        """
        request = {
            "arguments": arguments,
            "environment": dict(os.environ if environment is None else environment),
            "directory": str(Path.cwd()),
        }
        status, its_status = socket.socketpair()
        self.stdout, its_stdout = stream_to(stdout)
        self.stderr, its_stderr = stream_to(stderr)
        with its_status, its_stdout, its_stderr:
            files = [its_stdout.fileno(), its_stderr.fileno(), its_status.fileno()]
            socket.send_fds(server(), [json.dumps(request).encode()], files)
        answers = status.makefile("r")
        self.pid = int(answers.readline())
        self.returncode: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._await_end, args=(status, answers), daemon=True).start()

    def _await_end(self, status: socket.socket, answers: TextIO) -> None:
        with status, answers:
            self.returncode = int(answers.readline() or -signal.SIGKILL)
        self._ended.set()

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; its exit code, negative for a signal. Raises `TimeoutError`."""
        if not self._ended.wait(timeout):
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Kill it if it runs, and close its streams."""
        self.kill()
        self.wait()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()


def stream_to(file: IO[bytes] | None) -> tuple[IO[bytes] | None, IO[bytes]]:
    """The end of a process's stream to read here, and the one that it gets: a pipe's, or a file's."""
    if file is not None:
        return None, os.fdopen(os.dup(file.fileno()), "wb", buffering=0)
    ours, its = os.pipe()
    return os.fdopen(ours, "rb"), os.fdopen(its, "wb", buffering=0)


def main() -> None:
    """Fork a process for each request, and report its process id and exit code."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 4_096)
            report_ended(running)
        if control not in ready:
            continue
        request, files, _, _ = socket.recv_fds(control, REQUEST_BYTES_MAX, 3)
        if not request:
            return
        status = socket.socket(fileno=files[2])
        pid = os.fork()
        if pid == 0:
            for beside in (control, status, *running.values()):
                beside.close()
            become(json.loads(request), files[:2], (woken, wake))
            return
        status.sendall(f"{pid}\n".encode())
        running[pid] = status
        for file in files[:2]:
            os.close(file)


def report_ended(running: dict[int, socket.socket]) -> None:
    """Report the exit code of each process that has ended."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as reader:
            reader.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(request: dict[str, object], streams: list[int], others: tuple[int, ...]) -> None:
    """Be the process that was requested."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(streams, start=1):
        os.dup2(file, number)
    for file in (*streams, *others):
        os.close(file)
    environment, directory, arguments = request["environment"], request["directory"], request["arguments"]
    assert isinstance(environment, dict)
    assert isinstance(directory, str)
    assert isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    flag, program, *words = arguments
    sys.argv = [flag, *words]
    if flag == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
