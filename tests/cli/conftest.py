"""A real repository, a data folder of its own, and the real program as a process."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.harness import forked

SIZES = ("LINES", "COLUMNS")
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Result:
    """What a run of the program left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Program:
    """The program `holdfast` with a data folder of its own, run in a repository."""

    home: Path
    repository: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
            kept.pop(name, None)
        own = {"HOLDFAST_DATA": str(self.data), "HOLDFAST_RETRY_BASE_SECONDS": "0.1", "TERM": "xterm-256color"}
        own["HOLDFAST_ANSWER_SECONDS"] = str(PATIENCE_SECONDS)
        own["HOLDFAST_SANDBOX"] = "none"  # the tests count effects outside of worktrees
        return kept | own | self.environment

    def __call__(self, *words: str, cwd: Path | None = None, stdin: str = "", **variables: str) -> Result:
        env, place = self.variables | variables, cwd or self.repository
        if forked.can_run(env):
            done = forked.run(words, cwd=place, env=env, stdin=stdin, timeout=PATIENCE_SECONDS)
        else:
            line = [sys.executable, "-m", "holdfast", *words]
            done = subprocess.run(
                line, cwd=place, env=env, input=stdin, capture_output=True, text=True, timeout=PATIENCE_SECONDS
            )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "holdfast", *words],
            cwd=self.repository,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_terminal(self, *words: str, rows: int = 30, columns: int = 90, **variables: str) -> Terminal:
        return Terminal.open([sys.executable, "-m", "holdfast", *words], self, rows, columns, variables)

    def plan(self, text: str, name: str = "plan.yaml") -> str:
        """Writes a plan file and gives its path."""
        path = self.home / name
        path.write_text(text, encoding="utf-8")
        return str(path)


@dataclass
class Terminal:
    """A process on a pseudo terminal, and all that it has written there."""

    pid: int
    fd: int
    text: str = ""
    code: int | None = None

    @classmethod
    def open(cls, command: list[str], program: Program, rows: int, columns: int, variables: dict[str, str]) -> Terminal:
        import fcntl
        import struct
        import termios

        leader, follower = os.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            cwd=program.repository,
            # The runner of the tests sets a size of its own in the environment, which would win over the terminal's.
            env={name: value for name, value in (program.variables | variables).items() if name not in SIZES},
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        opened = cls(process.pid, leader)
        opened._process = process
        return opened

    _process: Any = None

    def wait_for(self, *words: str) -> str:
        """Reads until all `words` have been written since the last call; gives what was written."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        seen = ""
        while missing := [each for each in words if each not in seen]:
            read = self._read(deadline)
            if read is None:
                raise AssertionError(f"the process ended without saying {missing}: {self.text[-2000:]}")
            seen += read
        return seen

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def end(self) -> int:
        """Waits for the end of the process and gives its exit code."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._read(deadline) is not None:
            pass
        os.close(self.fd)
        return self._process.wait(timeout=PATIENCE_SECONDS)

    def _read(self, deadline: float) -> str | None:
        ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            self._process.send_signal(signal.SIGKILL)
            raise AssertionError(f"nothing was written for too long after: {self.text[-2000:]}")
        try:
            read = os.read(self.fd, 65536).decode(errors="replace")
        except OSError:
            return None
        self.text += read
        return read or None


def git(folder: Path, *words: str) -> str:
    """Runs git as a user would, with an identity and without any configuration of the machine."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ann",
        "GIT_AUTHOR_EMAIL": "ann@example.org",
        "GIT_COMMITTER_NAME": "Ann",
        "GIT_COMMITTER_EMAIL": "ann@example.org",
    }
    done = subprocess.run(["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def make_repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "README.md").write_text("# shop\n", encoding="utf-8")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "start")
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The program in a new repository that is not registered yet."""
    return Program(tmp_path, make_repository(tmp_path / "shop"))


@pytest.fixture
def ready(program: Program) -> Program:
    """The program in a registered repository."""
    assert program("init").code == 0
    return program


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """One program and registered repository for a whole module."""
    home = tmp_path_factory.mktemp("shared")
    made = Program(home, make_repository(home / "shop"))
    assert made("init").code == 0
    return made


# Its two sides go on until a test lets them.
SLOW = """
title: Slow one
phases:
  - title: Begin
    tasks:
      - {title: Quick, run: echo one > one.txt}
  - title: Both
    mode: parallel
    tasks:
      - title: Left
        run: |
          for i in $(seq 1200); do echo left $i; [ -e ../../../../go ] && break; sleep 0.1; done
          echo left >> ../../../../effects; echo l > l
      - title: Right
        run: |
          for i in $(seq 1200); do echo right $i; [ -e ../../../../go ] && break; sleep 0.1; done
          echo right >> ../../../../effects; echo r > r
  - title: End
    tasks:
      - {title: Join, run: cat l r > both.txt}
"""
