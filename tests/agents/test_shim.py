"""The shim's door and its manners: who gets in, what may be asked, and that nobody can hold the command up."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agents.runs import Run, eventually

from holdfast.agents import (
    Record,
    RunState,
    close_input,
    follow,
    kill,
    limit_suspended,
    read,
    send,
    start,
    state,
    stop,
    suspend_limit,
    sync,
)
from holdfast.agents import shim as shim_package
from holdfast.errors import ClaimLost, StepError, UsageError

ENTRY = Path(shim_package.__file__).with_name("__main__.py")


def knock(run: Run) -> socket.socket:
    """Connects as a client that does as it pleases."""
    place = os.open(run.folder, os.O_PATH)
    client = socket.socket(socket.AF_UNIX)
    client.connect(f"/proc/self/fd/{place}/socket")
    client.settimeout(240)
    os.close(place)
    return client


def ask(client: socket.socket, **request: object) -> None:
    client.sendall(json.dumps(request).encode() + b"\n")


def records(run: Run) -> list[Record]:
    return list(read(run.folder / "journal.jsonl"))


def ended(run: Run) -> bool:
    return state(run.folder) is RunState.ENDED


def output(run: Run, kind: str = "stdout") -> bytes:
    return b"".join(record.content for record in records(run) if record.kind == kind)


def test_standard_input_is_recorded_and_delivered(run: Run) -> None:
    start(run.folder, run.launch("cat; echo end", stdin="pipe"))
    with knock(run) as client:
        ask(client, stdin="first\n", id="m1")
        ask(client, stdin_base64="/wA=")
        ask(client, close_stdin=True)
        eventually(lambda: ended(run))
    assert output(run) == b"first\n\xff\0end\n"
    assert output(run, "stdin") == b"first\n\xff\0"
    assert [r.fields.get("id") for r in records(run) if r.kind == "stdin"] == ["m1", None]


def test_more_input_than_any_buffer_reaches_a_slow_command(run: Run) -> None:
    start(run.folder, run.launch("sleep 0.3; wc -c", stdin="pipe"))
    with knock(run) as client:
        for _ in range(40):
            ask(client, stdin="x" * 100_000)
        ask(client, close_stdin=True)
        eventually(lambda: ended(run))
    assert output(run) == b"4000000\n"


def test_a_command_that_does_not_read_its_input_still_hears_stop(run: Run) -> None:
    start(run.folder, run.launch("sleep 1000", stdin="pipe"))
    with knock(run) as client:
        for _ in range(12):
            ask(client, stdin="x" * 100_000)
        assert asyncio.run(stop(run.folder, 1.0))
        eventually(lambda: ended(run))
    assert records(run)[-1].fields["reason"] == "stopped"


def test_a_client_that_never_reads_does_not_hold_up_the_command(run: Run) -> None:
    start(run.folder, run.launch("for i in $(seq 1 3000); do echo $i; done; seq 1 200000", stdin="null"))
    with knock(run) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        ask(client, attach=0)
        eventually(lambda: ended(run))
    assert output(run).endswith(b"199999\n200000\n")


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[]\n", b'{"fly": true}\n', b'{"stop": "soon"}\n', b"\xff\n", b'{"stdin": "x"}\n']
)
def test_a_bad_request_is_refused_and_changes_nothing(run: Run, line: bytes) -> None:
    start(run.folder, run.launch("while [ ! -e go ]; do sleep 0.02; done; echo fine"))
    with knock(run) as client:
        client.sendall(line)
        answer = client.makefile("rb").read()
    assert b'"error":"bad request' in answer
    (run.cwd / "go").touch()
    eventually(lambda: ended(run))
    assert output(run) == b"fine\n"


def test_a_crowd_at_the_door_does_not_keep_a_later_client_out(run: Run) -> None:
    start(run.folder, run.launch("while [ ! -e go ]; do sleep 0.02; done"))
    crowd = [knock(run) for _ in range(40)]
    ordered = asyncio.run(kill(run.folder))
    for client in crowd:
        client.close()
    assert ordered
    eventually(lambda: ended(run))
    assert records(run)[-1].fields["signal"] == 9


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_another_user_is_turned_away_even_where_the_folder_lets_them_in(run: Run) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        run.folder = Path(place) / "run"
        start(run.folder, run.launch("sleep 1000"))
        os.chmod(run.folder, 0o755)
        os.chmod(run.folder / "socket", 0o666)
        intruder = (
            "import socket; s = socket.socket(socket.AF_UNIX); s.connect('socket')\n"
            "try: s.sendall(b'{\"kill\": true}\\n'); print(s.recv(100))\n"
            "except OSError: print(b'')"
        )
        told = subprocess.run(
            ["/usr/bin/env", "python3", "-c", intruder], cwd=run.folder, user=65534, group=65534, capture_output=True
        )
        assert told.stdout == b"b''\n", told.stderr
        assert state(run.folder) is RunState.RUNNING
        assert asyncio.run(kill(run.folder))
        eventually(lambda: ended(run))


async def test_a_newer_follower_displaces_the_older(run: Run) -> None:
    start(run.folder, run.launch("echo up; while [ ! -e go ]; do sleep 0.02; done; echo down"))
    attached = asyncio.Event()

    async def collect() -> bytes:
        parts: list[bytes] = []
        async for record in follow(run.folder):
            parts.append(record.content if record.kind == "stdout" else b"")
            if record.kind == "client":
                attached.set()
        return b"".join(parts)

    older = asyncio.create_task(collect())
    await attached.wait()
    newer = asyncio.create_task(collect())
    with pytest.raises(ClaimLost):
        await older
    (run.cwd / "go").touch()
    assert await newer == b"up\ndown\n"


async def test_following_from_a_number_gives_what_comes_after_it(run: Run) -> None:
    await run.go("echo a; sleep 0.05; echo b")
    half = run.records[len(run.records) // 2].n
    assert [record.n async for record in follow(run.folder, half)] == [r.n for r in run.records if r.n > half]


async def test_orders_to_a_run_that_has_ended_are_refused(run: Run) -> None:
    await run.go("true")
    assert not await stop(run.folder, 1.0)
    assert not await kill(run.folder)


def test_the_state_follows_from_lock_and_journal(run: Run) -> None:
    assert state(run.folder) is RunState.ABSENT
    run.folder.mkdir(parents=True)
    lock = os.open(run.folder / "shim.lock", os.O_RDWR | os.O_CREAT)
    assert state(run.folder) is RunState.ABSENT
    fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))
    assert state(run.folder) is RunState.STARTING
    (run.folder / "journal.jsonl").write_text("")
    assert state(run.folder) is RunState.STARTING
    (run.folder / "journal.jsonl").write_text('{"n":1,"at":1,"kind":"started"}\n')
    assert state(run.folder) is RunState.RUNNING
    os.close(lock)
    assert state(run.folder) is RunState.LOST
    with (run.folder / "journal.jsonl").open("a") as file:
        file.write('{"n":2,"at":1,"kind":"exit"}\n')
    assert state(run.folder) is RunState.ENDED


def test_nothing_is_left_in_the_folder_but_the_record(run: Run) -> None:
    start(run.folder, run.launch("true"))
    eventually(lambda: not (run.folder / "socket").exists())
    assert {path.name for path in run.folder.iterdir()} == {"journal.jsonl", "launch.json", "shim.lock", "shim.log"}
    assert (run.folder / "shim.log").read_text() == ""


def test_the_shim_imports_nothing_that_costs(run: Run) -> None:
    """Each of these modules costs more CPU time than the shim's whole own code; every command pays it."""
    probe = (
        f"import sys; sys.path.append({str(ENTRY.parent.parent)!r}); import shim.run\n"
        "print(*sorted(set(sys.modules) & {'typing', 're', 'enum', 'json', 'socket', 'signal', 'ctypes', 'subprocess',"
        " 'collections', 'contextlib', 'dataclasses', 'functools', 'selectors', 'holdfast'}))"
    )
    told = subprocess.run([sys.executable, "-I", "-S", "-c", probe], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


async def test_what_has_an_id_is_delivered_once_whoever_sends_it_how_often(run: Run) -> None:
    start(run.folder, run.launch("cat", stdin="pipe"))
    for _ in range(3):
        assert await send(run.folder, "one\n", "m1")
    assert await send(run.folder, "two\n", "m2")
    assert await sync(run.folder)
    assert await close_input(run.folder)
    await asyncio.to_thread(eventually, lambda: ended(run))
    assert output(run) == b"one\ntwo\n"
    assert [r.fields["id"] for r in records(run) if r.kind == "stdin"] == ["m1", "m2"]
    assert not await send(run.folder, "three\n", "m3")
    assert not await sync(run.folder)


async def test_a_time_limit_stands_still_until_what_is_awaited_is_said(make_run: Callable[[], Run]) -> None:
    run, later = make_run(), make_run()
    start(run.folder, run.launch('read a; echo "$a"; exec sleep 1000', stdin="pipe", timeout_seconds=4.0))
    assert await suspend_limit(run.folder, until="a1")
    start(later.folder, later.launch("exec sleep 1000", timeout_seconds=4.0))
    eventually(lambda: ended(later))
    assert state(run.folder) is RunState.RUNNING
    await send(run.folder, "said\n", "a1")
    assert await suspend_limit(run.folder, until="a1"), "asked too late: it was said"
    eventually(lambda: ended(run))
    assert (output(run), records(run)[-1].fields["reason"]) == (b"said\n", "timeout")
    assert [record.fields["until"] for record in records(run) if record.kind == "limit_suspended"] == ["a1"]


async def test_a_time_limit_stands_still_as_long_as_who_asked_for_it_is_there(make_run: Callable[[], Run]) -> None:
    run, later = make_run(), make_run()
    start(run.folder, run.launch("exec sleep 1000", timeout_seconds=3.0))
    async with limit_suspended(run.folder):
        start(later.folder, later.launch("exec sleep 1000", timeout_seconds=3.0))
        await asyncio.to_thread(eventually, lambda: ended(later))
        assert state(run.folder) is RunState.RUNNING
    await asyncio.to_thread(eventually, lambda: ended(run))
    assert records(run)[-1].fields["reason"] == "timeout"
    async with limit_suspended(run.folder):
        pass  # nothing runs any more, which is as well


async def test_nothing_more_is_sent_after_the_end_of_the_input(run: Run) -> None:
    start(run.folder, run.launch("cat; sleep 1000", stdin="pipe"))
    assert await send(run.folder, "one\n", "m1")
    assert await close_input(run.folder)
    assert not await send(run.folder, "two\n", "m2")
    assert await kill(run.folder)


async def test_a_message_that_the_journal_has_no_room_for_is_not_delivered(run: Run) -> None:
    start(run.folder, run.launch("cat", stdin="pipe", journal_max_bytes=1 << 16))
    with pytest.raises(StepError, match="the journal is full"):
        await send(run.folder, "x" * (1 << 16), "m1")
    assert await send(run.folder, "small\n", "m2")
    assert await close_input(run.folder)
    await asyncio.to_thread(eventually, lambda: ended(run))
    assert output(run) == b"small\n"


async def test_what_a_command_does_not_read_waits_and_does_not_hold_up_a_stop(run: Run) -> None:
    start(run.folder, run.launch("sleep 1000", stdin="pipe", journal_max_bytes=1 << 30))
    assert await send(run.folder, "x" * (2 << 20), "m1")
    waiting = asyncio.ensure_future(send(run.folder, "x" * (2 << 20), "m2"))
    assert await kill(run.folder)
    assert not await waiting


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, 1 << 20])
def test_only_the_rest_of_a_line_that_is_too_long_is_cut(run: Run, size: int) -> None:
    line = f"head -c {size} /dev/zero | tr '\\0' x; echo"
    start(run.folder, run.launch(f"echo before; {line}; echo after; {{ {line}; }} >&2", line_max_bytes=1 << 16))
    eventually(lambda: ended(run))
    first, middle, last = output(run).splitlines()
    assert (first, last) == (b"before", b"after")
    fits = size <= 1 << 16
    assert (len(middle) == size) if fits else (len(middle) <= 1 << 16)
    assert [r.kind for r in records(run)].count("cut_line") == (0 if fits else 1)
    assert records(run)[-1].fields["dropped_bytes"] == size - len(middle)
    assert len(output(run, "stderr")) == size + 1


def test_a_limit_of_lines_that_cannot_be_kept_is_refused(run: Run) -> None:
    with pytest.raises(UsageError):
        run.launch("true", line_max_bytes=1000)
