"""The worker's end of the nursery (`shim/nursery.py`): one a process, made when the first shim is started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

_ENTRY = Path(__file__).parent / "shim" / "__main__.py"


class Nursery:
    """Starts shims from one warm interpreter. Safe from any thread; OSError where no process can be started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._environment: Mapping[str, str] = {}

    def start(self, folder: Path, lock: int, log: int, launch: int, environment: Mapping[str, str]) -> int:
        """Gives the exit code of the shim's first process: 0 = the shim stands.

        `launch` is an open file that says what to run, `log` one for the shim's standard error.
        Raises ConnectionError if the nursery died over it: then the run folder says whether the shim stands.
        """
        with self._lock:
            request = (os.fsencode(folder.absolute()),)
            try:
                control = self._open(environment)
                socket.send_fds(control, request, [lock, log, launch])
            except BrokenPipeError:
                # It was gone before it was asked, so nothing was started.
                self._close()
                control = self._open(environment)
                socket.send_fds(control, request, [lock, log, launch])
            if not (answer := control.recv(1)):
                self._close()
                raise ConnectionError("the process that starts shims died")
            return answer[0]

    def _open(self, environment: Mapping[str, str]) -> socket.socket:
        """Gives the connection to a nursery with that environment; it inherits the shims' to be."""
        if self._control is None or self._environment != environment:
            self._close()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_ENTRY), "--nursery", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env=dict(environment),
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
                process.wait()
            self._control, self._environment = ours, dict(environment)
        return self._control

    def _close(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
