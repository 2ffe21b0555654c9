"""Runs one command from its start to the end of its whole process tree, and answers clients meanwhile."""

from __future__ import annotations

import binascii
import os
import select
import time

from . import lean, tree
from .child import Child, adopt_orphans, spawn
from .discreet import DiscreetLedger
from .door import Client, Door
from .lean import signal
from .ledger import Full, Ledger
from .redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

# What background children of an ended command get before they are asked to end too.
DRAIN_SECONDS = 1.0
# After this long under SIGKILL, what still lives (another user's process, a dead disk) is named and left.
SURVIVAL_SECONDS = 10.0
STDIN_PENDING_BYTES = 1 << 20
STDIN_IDS_MAX = 10_000
AWAITED_MAX = 1000
_READ_BYTES = 1 << 16
_IDLE_SECONDS = 5.0
_TICK_SECONDS = (0.02, 0.5)


def main(folder: str, lock: int, launch_file: int) -> NoReturn:
    """Prepares while the worker waits, so that it hears of any failure; then goes on as a detached process."""
    os.set_inheritable(lock, False)
    os.chdir(folder)
    with open(launch_file, encoding="utf-8") as file:
        launch = lean.loads(file.read())
    assert isinstance(launch, dict)
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        # The machine going down is the command's affair: its end is recorded as what it was.
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    door = Door()
    lean.failpoint("shim.listening")
    limits = launch["journal_max_bytes"], launch["line_max_bytes"]
    ledger = DiscreetLedger("journal.jsonl", *limits, Redactor(launch["secrets"]))
    lean.failpoint("shim.journal_made")
    if os.fork() != 0:
        os._exit(0)
    adopt_orphans()
    os._exit(Run(launch, ledger, door).run())


class Run:
    """The state of the one command that this process owns."""

    def __init__(self, launch: dict, ledger: Ledger, door: Door) -> None:
        self._launch = launch
        self._ledger = ledger
        self._door = door
        self._poll = select.poll()
        self._actions: dict[int, Callable[[int], None]] = {}
        self._streams: dict[int, str] = {}
        self._child = Child(0, -1, -1, -1, None)
        self._stdin_pending = bytearray()
        self._stdin_closing = False
        self._fed: dict[object, None] = {}
        self._awaited: set[object] = set()
        self._still_since = 0.0
        self._still_seconds = 0.0
        self._paused: list[Client] = []
        self._began = time.monotonic()
        self._ended: float | None = None
        self._status = 0
        self._children = True
        self._cpu_seconds = 0.0
        self._peak_memory_bytes = 0
        self._reason = ""
        self._kill_at: float | None = None
        self._tick = _TICK_SECONDS[0]
        self._rung = 0

    def run(self) -> int:
        """Gives this process's exit code: 0 if the journal holds the end of the command."""
        try:
            self._start()
            while not self._over():
                for descriptor, _ in self._poll.poll(self._wait_milliseconds()):
                    action = self._actions.get(descriptor)
                    if action is not None:
                        action(descriptor)
                self._reap()
                self._advance(time.monotonic())
                self._ring()
            self._finish()
        except Full as error:
            self._abandon(str(error))
            if self._door.follower is None:
                # Nobody was told, and nothing can be written: a file that is there gets the name that tells it.
                os.rename("socket", "unrecorded")
            return 1
        except BaseException:
            self._abandon("the shim failed; its shim.log says how")
            raise
        return 0

    def _start(self) -> None:
        self._watch(self._door.descriptor, self._welcome)
        self._child = spawn(self._launch)
        lean.failpoint("shim.spawned")
        self._ledger.record("started", pid=self._child.pid, shim=os.getpid())
        lean.failpoint("shim.started")
        # Readable once the command has ended; it stays ours until it is reaped, so the pid cannot be another's.
        self._watch(os.pidfd_open(self._child.pid), self._unwatch)
        self._streams = {self._child.stdout: "stdout", self._child.stderr: "stderr"}
        for descriptor in self._streams:
            self._watch(descriptor, self._read)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _watch(self, descriptor: int, action: Callable[[int], None], events: int = select.POLLIN) -> None:
        self._poll.register(descriptor, events)
        self._actions[descriptor] = action

    def _unwatch(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._actions[descriptor]
        os.close(descriptor)

    def _wait_milliseconds(self) -> int:
        now = time.monotonic()
        if self._ended is not None or self._kill_at is not None:
            wait = self._tick
            self._tick = min(self._tick * 1.5, _TICK_SECONDS[1])
            deadline = self._kill_at or (self._ended or now) + DRAIN_SECONDS
            if deadline > now:
                wait = min(wait, deadline - now)
        else:
            # Orphans that ended are reaped at every wake-up; an idle command gets one now and then for that.
            wait = _IDLE_SECONDS
            if (limit := self._limit_at()) is not None:
                wait = min(wait, limit - now)
        return max(0, int(wait * 1000) + 1)

    def _over(self) -> bool:
        given_up = self._kill_at is not None and time.monotonic() > self._kill_at + SURVIVAL_SECONDS
        return given_up or not self._children

    def _reap(self) -> None:
        """Collects what has ended. As every orphan becomes ours, no children left means that nothing is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._children = False
                return
            if pid == 0:
                return
            self._cpu_seconds += usage.ru_utime + usage.ru_stime
            self._peak_memory_bytes = max(self._peak_memory_bytes, usage.ru_maxrss * 1024)
            if pid == self._child.pid and self._ended is None:
                self._ended = time.monotonic()
                self._status = status
                self._tick = _TICK_SECONDS[0]
                lean.failpoint("shim.command_ended")

    def _limit_at(self) -> float | None:
        """Gives when the time limit is reached; None where there is none, and while it stands still."""
        timeout = self._launch["timeout_seconds"]
        return None if timeout <= 0 or self._awaited else self._began + self._still_seconds + timeout

    def _advance(self, now: float) -> None:
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._signal_all(signal.SIGKILL)
        elif self._ended is None:
            if (limit := self._limit_at()) is not None and now >= limit:
                self._end("timeout", self._launch["grace_seconds"])
        elif self._children and now >= self._ended + DRAIN_SECONDS:
            self._end("", self._launch["grace_seconds"])

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end(self, reason: str, grace_seconds: float) -> None:
        """Asks the whole tree to end; after the grace it is killed. Asked again, only a shorter grace counts."""
        kill_at = time.monotonic() + max(0.0, grace_seconds)
        if self._kill_at is None:
            if reason and self._ended is None:
                self._reason = reason
                self._ledger.record("timeout" if reason == "timeout" else "stopping", grace_seconds=grace_seconds)
            if grace_seconds > 0:
                self._signal_all(signal.SIGTERM)
            self._tick = _TICK_SECONDS[0]
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _signal_all(self, number: int) -> None:
        # The group first and at once, as a terminal does it; then whoever left the group or the session.
        group = self._child.pid if self._ended is None else 0
        if group:
            self._signal_group(group, number)
            if number == signal.SIGTERM and self._launch["asked_to_end"] == "group":
                return
        for process in tree.below({os.getpid()}, tree.everyone()):
            if group and _group_of(process.pid) == group:
                continue
            try:
                descriptor = tree.send(process, number)
            except PermissionError:
                continue
            if descriptor is not None:
                if number == signal.SIGTERM:
                    tree.send_again(descriptor, signal.SIGCONT)
                os.close(descriptor)

    def _signal_group(self, group: int, number: int) -> None:
        try:
            os.killpg(group, number)
            if number == signal.SIGTERM:
                # A stopped process takes no signal but KILL until it goes on.
                os.killpg(group, signal.SIGCONT)
        except (ProcessLookupError, PermissionError):
            # Ended in this moment, or one of them belongs to somebody else: those end up as survivors.
            return

    def _finish(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._streams and time.monotonic() < deadline:
            before = len(self._streams), self._ledger.n, self._ledger.dropped_bytes
            for descriptor in list(self._streams):
                self._read(descriptor)
            if before == (len(self._streams), self._ledger.n, self._ledger.dropped_bytes):
                break
        lean.failpoint("shim.drained")
        self._ledger.seal(**self._outcome())
        lean.failpoint("shim.sealed")
        if self._door.follower is not None:
            self._door.follower.tell(n=self._ledger.n, ended=True)
        os.unlink("socket")

    def _outcome(self) -> dict[str, object]:
        failure = self._child.failure
        code = os.waitstatus_to_exitcode(self._status) if self._ended is not None else None
        survivors = [process.pid for process in tree.below({os.getpid()}, tree.everyone())] if self._children else []
        return {
            "reason": "start_failed" if failure else self._reason or "exit",
            "exit_code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "message": failure.message if failure else "",
            "seconds": round((self._ended or time.monotonic()) - self._began, 6),
            "cpu_seconds": round(self._cpu_seconds, 6),
            "peak_memory_bytes": self._peak_memory_bytes,
            "survivors": survivors,
        }

    def _abandon(self, why: str) -> None:
        """Leaves no process behind, and no exit record: the run counts as lost."""
        if self._door.follower is not None:
            self._door.follower.tell(error=why)
        deadline = time.monotonic() + SURVIVAL_SECONDS
        while self._children and time.monotonic() < deadline:
            self._signal_all(signal.SIGKILL)
            self._reap()
            time.sleep(0.005)

    # -- streams -----------------------------------------------------------------------------------------------------

    def _read(self, descriptor: int) -> None:
        kind = self._streams[descriptor]
        try:
            chunk = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if chunk:
            self._ledger.stream(kind, chunk)
            return
        self._ledger.close_stream(kind)
        del self._streams[descriptor]
        self._unwatch(descriptor)

    def _write_stdin(self, descriptor: int) -> None:
        try:
            written = os.write(descriptor, self._stdin_pending[:_READ_BYTES])
            del self._stdin_pending[:written]
        except BlockingIOError:
            return
        except OSError:
            self._stdin_pending.clear()
            self._stdin_closing = True
        if self._stdin_pending:
            return
        self._poll.unregister(descriptor)
        del self._actions[descriptor]
        if self._stdin_closing:
            os.close(descriptor)
            self._child.stdin = -1
        for client in self._paused:
            if client.descriptor in self._actions:
                self._poll.modify(client.descriptor, select.POLLIN)
        self._paused.clear()

    # -- clients -----------------------------------------------------------------------------------------------------

    def _welcome(self, _: int) -> None:
        client = self._door.welcome()
        if client is None:
            return
        self._watch(client.descriptor, self._listen)
        if (idle := self._door.surplus()) is not None:
            self._dismiss(idle)

    def _listen(self, descriptor: int) -> None:
        client = self._door.clients[descriptor]
        if not self._door.hear(client, self._obey):
            self._dismiss(client)
        elif len(self._stdin_pending) > STDIN_PENDING_BYTES:
            self._poll.modify(descriptor, 0)
            self._paused.append(client)

    def _dismiss(self, client: Client) -> None:
        self._poll.unregister(client.descriptor)
        del self._actions[client.descriptor]
        self._resume_limit(client)
        self._door.dismiss(client)

    def _obey(self, client: Client, request: dict) -> None:
        match request:
            case {"attach": int(after), **rest}:
                previous = self._door.follower
                self._door.follow(client)
                if previous is not None and previous is not client:
                    self._dismiss(previous)
                self._ledger.record("client", pid=client.pid, after=after, name=str(rest.get("name", "")))
                client.tell(n=self._ledger.n)
            case {"stop": int() | float() as grace}:
                self._end("stopped", grace)
                client.tell(ok=True)
            case {"kill": True}:
                self._end("stopped", 0.0)
                client.tell(ok=True)
            case {"stdin": str(text), **rest}:
                self._feed(client, text.encode(), rest.get("id"))
            case {"stdin_base64": str(text), **rest}:
                self._feed(client, binascii.a2b_base64(text), rest.get("id"))
            case {"suspend_limit": str(name)}:
                self._suspend_limit(name)
                client.tell(ok=True)
            case {"suspend_limit": True}:
                # For as long as the client stays, however it leaves.
                self._suspend_limit(client)
                client.tell(ok=True)
            case {"close_stdin": True}:
                self._stdin_closing = True
                self._expect_stdin()
                client.tell(ok=True)
            case {"sync": True}:
                self._ledger.sync()
                client.tell(ok=True)
            case _:
                raise ValueError(f"unknown request: {', '.join(request)}")

    def _feed(self, client: Client, chunk: bytes, name: object) -> None:
        """Records, then delivers: after a crash the journal says what the command may have been told.

        What has an id is delivered once and always answered. Ids are forgotten after ten thousand others: only a
        worker that has just died and the one after it can send the same.
        """
        if name is None or name not in self._fed:
            if self._child.stdin < 0 or self._stdin_closing:
                raise ValueError("the command has no open standard input")
            if not self._ledger.stdin(chunk, **({} if name is None else {"id": name})):
                raise ValueError("the journal is full")
            self._stdin_pending += chunk
            self._expect_stdin()
        if name is not None:
            self._fed[name] = None
            self._resume_limit(name)
            if len(self._fed) > STDIN_IDS_MAX:
                del self._fed[next(iter(self._fed))]
            client.tell(ok=True)

    def _suspend_limit(self, name: object) -> None:
        """Lets the time limit stand still until the input of that name is fed, or the client of that name has left; an
        input that was fed suspends nothing.

        So what is awaited ends it: whoever dies over it leaves no limit that stands still for good.
        """
        if name in self._fed or name in self._awaited or len(self._awaited) >= AWAITED_MAX:
            return
        if not self._awaited:
            self._still_since = time.monotonic()
        self._awaited.add(name)
        self._ledger.record("limit_suspended", until=f"pid {name.pid}" if isinstance(name, Client) else name)

    def _resume_limit(self, name: object) -> None:
        if name in self._awaited:
            self._awaited.discard(name)
            if not self._awaited:
                self._still_seconds += time.monotonic() - self._still_since

    def _expect_stdin(self) -> None:
        if self._child.stdin >= 0 and self._child.stdin not in self._actions:
            self._watch(self._child.stdin, self._write_stdin, select.POLLOUT)

    def _ring(self) -> None:
        if self._rung != self._ledger.n and self._door.follower is not None:
            self._door.follower.tell(n=self._ledger.n)
        self._rung = self._ledger.n


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
