"""Starts shims by forking one warm interpreter: starting Python costs more than all that a shim does at its start.

A worker has one nursery and ends it by closing its end of the socket. A request is one packet, the path of a run
folder, with three descriptors: its lock, the file for the shim's standard error, and a file in memory that says what to
run (with its secrets, which are nowhere on the disk). The answer is one byte, the exit
code of the shim's first process. The shims belong to nobody: they go on when the nursery ends, however it does.
"""

from __future__ import annotations

import os
import sys

from . import run
from .lean import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_PATH_BYTES = 4096
_INTEGER_BYTES = 4


def serve(descriptor: int) -> NoReturn:
    """Serves the worker at the other end of a SOCK_SEQPACKET socket until it closes; detached from the start."""
    if os.fork() != 0:
        os._exit(0)
    os.set_inheritable(descriptor, False)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)
    while True:
        path, ancillary, _, _ = control.recvmsg(_PATH_BYTES, socket.CMSG_SPACE(3 * _INTEGER_BYTES))
        if not path:
            os._exit(0)
        passed = ancillary[0][2]
        lock, log, launch = (
            int.from_bytes(passed[at : at + _INTEGER_BYTES], sys.byteorder)
            for at in range(0, 3 * _INTEGER_BYTES, _INTEGER_BYTES)
        )
        first = os.fork()
        if first == 0:
            control.close()
            _become_shim(os.fsdecode(path), lock, log, launch)
        for descriptor in (lock, log, launch):
            os.close(descriptor)
        _, status = os.waitpid(first, 0)
        control.send(bytes([os.waitstatus_to_exitcode(status) & 0xFF]))


def _become_shim(folder: str, lock: int, log: int, launch: int) -> NoReturn:
    try:
        os.setsid()
        os.dup2(log, 2)
        os.close(log)
        run.main(folder, lock, launch)
    except BaseException as error:  # noqa: BLE001  nothing may return into the nursery's loop
        sys.excepthook(type(error), error, error.__traceback__)
        os._exit(1)
