"""What a command's run gives: its output, its end, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.runs import Run, eventually

from holdfast.agents import Launch, Lost, RunState, complete, environment, read, run_command, start, state
from holdfast.errors import InfraError, UsageError


async def test_output_of_both_streams_and_the_exit_code_come_out(run: Run) -> None:
    outcome = await run.go("echo out; echo err >&2; exit 3")
    assert (outcome.reason, outcome.exit_code, outcome.signal) == ("exit", 3, None)
    assert (run.output("stdout"), run.output("stderr")) == (b"out\n", b"err\n")
    assert not outcome.succeeded
    assert sorted(outcome.last_output.split()) == ["err", "out"]
    assert [record.n for record in run.records] == list(range(1, len(run.records) + 1))
    assert run.kinds()[0] == "started"
    assert state(run.folder) is RunState.ENDED


async def test_a_command_without_output_succeeds(run: Run) -> None:
    outcome = await run.go("true")
    assert outcome.succeeded
    assert outcome.last_output == ""
    assert "stdout" not in run.kinds()


async def test_death_by_signal_is_told_as_the_signal(run: Run) -> None:
    outcome = await run.go("kill -SEGV $$")
    assert (outcome.reason, outcome.exit_code, outcome.signal) == ("exit", None, 11)


async def test_argv_is_run_without_a_shell_and_keeps_its_arguments(run: Run) -> None:
    outcome = await run.go(argv=("printf", "%s|", "a b", "$HOME", "ü"))
    assert outcome.succeeded
    assert run.output() == "a b|$HOME|ü|".encode()


async def test_the_environment_is_exactly_what_was_given(run: Run) -> None:
    await run.go("env", env={"PATH": os.environ["PATH"], "ODD": "ü\udcff"})
    names = {line.partition(b"=")[0] for line in run.output().splitlines()}
    assert names - {b"PWD", b"SHLVL", b"_", b"OLDPWD"} == {b"PATH", b"ODD", b"HOLDFAST_RUN_TOKEN"}
    assert b"ODD=\xc3\xbc\xff\n" in run.output()


async def test_the_command_has_no_descriptors_of_ours(run: Run) -> None:
    await run.go("ls /proc/self/fd")
    assert {int(name) for name in run.output().split()} <= {0, 1, 2, 3}


async def test_signals_are_at_their_defaults_in_the_command(run: Run) -> None:
    await run.go(argv=("grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"))
    assert {int(line.split()[1], 16) for line in run.output().splitlines()} == {0}


async def test_an_unknown_command_is_an_outcome_with_127(run: Run) -> None:
    outcome = await run.go(argv=("no-such-command-here",))
    assert (outcome.reason, outcome.exit_code) == ("start_failed", 127)
    assert outcome.message == "command not found: no-such-command-here"


async def test_a_shells_127_is_an_ordinary_exit(run: Run) -> None:
    outcome = await run.go("no-such-command-here")
    assert (outcome.reason, outcome.exit_code) == ("exit", 127)


async def test_a_file_that_cannot_be_executed_is_an_outcome_with_126(run: Run) -> None:
    (run.cwd / "plain").write_text("text")
    outcome = await run.go(argv=("./plain",))
    assert (outcome.reason, outcome.exit_code) == ("start_failed", 126)
    assert "./plain" in outcome.message


async def test_a_folder_that_is_not_there_is_an_outcome_that_names_it(run: Run) -> None:
    outcome = await run.go("true", cwd=str(run.cwd / "gone"))
    assert outcome.reason == "start_failed"
    assert f"cannot enter the folder {run.cwd / 'gone'}: No such file or directory" in outcome.message


async def test_binary_output_comes_out_byte_for_byte(run: Run) -> None:
    expected = os.urandom(300_000) + b"\0\xff\r\n"
    (run.cwd / "bytes").write_bytes(expected)
    await run.go("cat bytes")
    assert run.output() == expected


async def test_text_stays_text_whatever_the_reads_cut(run: Run) -> None:
    expected = "a" + "ü€𝄞" * 40_000
    (run.cwd / "text").write_text(expected)
    await run.go("cat text")
    assert run.output() == expected.encode()
    assert not [record for record in run.records if "base64" in record.fields]


async def test_an_unfinished_character_at_the_end_is_kept(run: Run) -> None:
    await run.go(r"printf 'a\342\202'")
    assert run.output() == b"a\xe2\x82"


async def test_a_line_of_megabytes_comes_out_whole(run: Run) -> None:
    outcome = await run.go("head -c 5000000 /dev/zero | tr '\\0' x")
    assert run.output() == b"x" * 5_000_000
    assert outcome.last_output == "x" * 4000


async def test_a_command_that_closes_its_output_goes_on(run: Run) -> None:
    outcome = await run.go("exec >&- 2>&-; sleep 0.2; touch done; exit 5")
    assert outcome.exit_code == 5
    assert (run.cwd / "done").exists()


async def test_a_flood_is_cut_with_a_marker_and_its_end_is_kept(run: Run) -> None:
    limit = 1 << 17
    outcome = await run.go("seq 1 400000; echo the reason >&2", journal_max_bytes=limit)
    total = len("".join(f"{i}\n" for i in range(1, 400_001))) + len("the reason\n")
    assert run.kinds().count("truncated") == 1
    assert len(run.output()) + len(run.output("stderr")) + outcome.dropped_bytes == total
    assert outcome.dropped_bytes > total // 2
    assert outcome.last_output.endswith("the reason\n") or "the reason\n" in outcome.last_output
    assert "399999\n400000\n" in outcome.last_output
    assert (run.folder / "journal.jsonl").stat().st_size < limit + (1 << 16)
    marker = run.kinds().index("truncated")
    assert all(r.fields.get("after_gap") for r in run.records[marker:] if r.kind in ("stdout", "stderr"))


async def test_a_binary_flood_stays_within_the_limit(run: Run) -> None:
    outcome = await run.go("head -c 3000000 /dev/urandom", journal_max_bytes=1 << 16)
    assert len(run.output()) + outcome.dropped_bytes == 3_000_000
    assert (run.folder / "journal.jsonl").stat().st_size < (1 << 16) + (1 << 16)


async def test_usage_is_measured_over_the_whole_tree(run: Run) -> None:
    burn = f"{sys.executable} -c 'x = bytearray(80 << 20)\nfor i in range(3000000): pass'"
    outcome = await run.go(f"({burn}); true")
    assert outcome.cpu_seconds > 0.02
    assert outcome.peak_memory_bytes > 80 << 20
    assert outcome.seconds > 0


async def test_a_daemon_that_left_the_session_is_gone_after_the_end(run: Run) -> None:
    daemon = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(1000)"
    outcome = await run.go(f"{sys.executable} -c '{daemon}' >/dev/null 2>&1 </dev/null; echo ended", grace_seconds=0.2)
    assert outcome.succeeded
    assert run.processes() == []


async def test_a_background_child_that_holds_the_output_open_does_not_hang_the_run(run: Run) -> None:
    outcome = await run.go("sleep 1000 & echo first")
    assert outcome.succeeded
    assert run.output() == b"first\n"
    assert run.processes() == []


async def test_what_a_background_child_says_shortly_after_is_heard(run: Run) -> None:
    await run.go("(sleep 0.1; echo late) & echo first")
    assert run.output() == b"first\nlate\n"


async def test_a_timeout_ends_the_whole_tree(run: Run) -> None:
    outcome = await run.go("(setsid sleep 1000 &); sleep 1000 & sleep 1000", timeout_seconds=0.3)
    assert (outcome.reason, outcome.signal) == ("timeout", 15)
    assert "timeout" in run.kinds()
    assert run.processes() == []


async def test_what_ignores_sigterm_is_killed_after_the_grace(run: Run) -> None:
    going = asyncio.create_task(run.go("trap '' TERM; echo up; while :; do sleep 0.05; done", grace_seconds=0.2))
    await run.said.wait()
    run.stop.set()
    outcome = await going
    assert (outcome.reason, outcome.signal) == ("stopped", 9)
    assert run.processes() == []


async def test_a_stopped_process_hears_sigterm(run: Run) -> None:
    going = asyncio.create_task(run.go("trap 'echo tidy; exit 4' TERM; echo up; kill -STOP $$", grace_seconds=60))
    await run.said.wait()
    await asyncio.to_thread(eventually, run.is_stopped)
    run.stop.set()
    outcome = await going
    assert (outcome.reason, outcome.exit_code) == ("stopped", 4)
    assert run.output() == b"up\ntidy\n"


async def test_stop_ends_the_run_with_its_own_reason(run: Run) -> None:
    going = asyncio.create_task(run.go("trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.02; done"))
    await run.said.wait()
    run.stop.set()
    outcome = await going
    assert (outcome.reason, outcome.exit_code) == ("stopped", 9)
    assert run.output() == b"up\nbye\n"
    assert "stopping" in run.kinds()


async def test_the_shim_ignores_signals_that_are_not_for_it(run: Run) -> None:
    going = asyncio.create_task(run.go("echo up; while [ ! -e go ]; do sleep 0.02; done; echo ended"))
    await run.said.wait()
    for number in (15, 2, 1):
        os.kill(run.shim(), number)
    (run.cwd / "go").touch()
    assert (await going).succeeded
    assert run.output() == b"up\nended\n"


async def test_a_run_folder_deeper_than_a_socket_path_works(run: Run) -> None:
    run.folder = run.folder / ("d" * 120) / ("e" * 120)
    assert (await run.go("echo deep")).succeeded
    assert run.output() == b"deep\n"


async def test_the_run_folder_is_for_its_owner_only(run: Run) -> None:
    start(run.folder, run.launch("while [ ! -e go ]; do sleep 0.02; done"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in run.folder.iterdir()}
    (run.cwd / "go").touch()
    assert stat.S_IMODE(run.folder.stat().st_mode) == 0o700
    assert modes["socket"] == modes["launch.json"] == modes["journal.jsonl"] == 0o600
    assert (await run.go("unused")).succeeded


async def test_an_error_of_the_receiver_leaves_the_command_running(run: Run) -> None:
    async def fail(_: object) -> None:
        raise ConnectionError

    launch = run.launch("while [ ! -e go ]; do sleep 0.02; done; echo ended")
    with pytest.raises(ConnectionError):
        await run_command(run.folder, launch, on_records=fail, stop=run.stop)
    assert state(run.folder) is RunState.RUNNING
    (run.cwd / "go").touch()
    assert (await run.go("unused")).succeeded
    assert run.output() == b"ended\n"


async def test_cancelling_leaves_the_command_running(run: Run) -> None:
    going = asyncio.create_task(run.go("echo up; while [ ! -e go ]; do sleep 0.02; done; echo ended"))
    await run.said.wait()
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    assert state(run.folder) is RunState.RUNNING
    (run.cwd / "go").touch()
    assert (await run.go("unused", after=run.records[-1].n)).succeeded
    assert run.output() == b"up\nended\n"


async def test_an_ended_run_is_told_again_without_running_again(run: Run) -> None:
    first = await run.go("echo once >> effects; echo said")
    count = len(run.records)
    again = await run.go("echo once >> effects; echo said", after=run.records[-1].n)
    assert again == first
    assert len(run.records) == count
    assert (run.cwd / "effects").read_text() == "once\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("this needs a small disk, and mounting one is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_full_disk_is_an_infrastructure_error_and_the_run_is_lost(run: Run, small_disk: Path) -> None:
    run.folder = small_disk / "run"
    going = asyncio.create_task(run.go("echo up; while [ ! -e go ]; do sleep 0.02; done; seq 1 1000000; sleep 1000"))
    await run.said.wait()
    (run.cwd / "go").touch()
    with pytest.raises(InfraError, match=r"output of the command .* was lost: .*No space left"):
        await going
    eventually(lambda: state(run.folder) is RunState.LOST)
    assert run.processes() == []
    kept = b"".join(record.content for record in read(run.folder / "journal.jsonl"))
    assert kept.startswith(b"up\n1\n2\n3\n")
    assert kept.startswith(run.output())
    assert complete(run.folder / "journal.jsonl") is None


async def test_who_follows_a_run_only_once_its_disk_was_full_is_told_so_and_then_it_is_lost(
    run: Run, small_disk: Path
) -> None:
    run.folder = small_disk / "run"
    script = "seq 1 1000000; sleep 1000"
    start(run.folder, run.launch(script))
    eventually(lambda: state(run.folder) is RunState.LOST)
    with pytest.raises(InfraError, match="could not be written") as caught:
        await run.go(script)
    assert "Free space" in caught.value.hint
    with pytest.raises(Lost):
        await run.go(script)


async def test_a_disk_that_is_full_at_the_start_leaves_the_run_absent(run: Run, small_disk: Path) -> None:
    run.folder = small_disk / "run"
    run.folder.mkdir(mode=0o700)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    with pytest.raises(InfraError):
        await run.go("touch effect")
    assert state(run.folder) is RunState.ABSENT
    (small_disk / "filler").unlink()
    assert (await run.go("touch effect")).succeeded
    assert (run.cwd / "effect").exists()


async def test_a_run_folder_in_the_place_of_a_file_is_an_infrastructure_error(run: Run) -> None:
    (run.cwd / "file").touch()
    run.folder = run.cwd / "file" / "run"
    with pytest.raises(InfraError, match="cannot be used"):
        await run.go("true")


def test_a_launch_has_exactly_one_command() -> None:
    with pytest.raises(UsageError):
        Launch(cwd="/", env={}, token="t")
    with pytest.raises(UsageError):
        Launch(cwd="/", env={}, token="t", argv=("true",), shell="true")
    with pytest.raises(UsageError, match="relative"):
        Launch(cwd="here", env={}, token="t", argv=("true",))


def test_the_environment_takes_the_allowed_and_never_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED", "1")
    monkeypatch.setenv("UNWANTED", "2")
    monkeypatch.setenv("HOLDFAST_DB", "postgresql://user:secret@host")
    chosen = environment(["WANTED", "HOLDFAST_DB", "ABSENT"], {"task_id": "t1"}, {"COLOUR": "blue"})
    assert chosen == {"WANTED": "1", "COLOUR": "blue", "HOLDFAST_TASK_ID": "t1"}


@pytest.mark.parametrize("name", ["", "A=B", "HOLDFAST_RUN_TOKEN", "NUL\0"])
def test_a_variable_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        environment([], {}, {name: "x"})


async def test_a_run_that_ended_before_the_machine_was_restarted_counts_as_lost(run: Run) -> None:
    """Its exit record was flushed when it ended; the files that its command wrote were not."""
    assert (await run.go("true")).succeeded
    assert (await run.go("true")).succeeded
    written = json.loads((run.folder / "launch.json").read_text())
    (run.folder / "launch.json").write_text(json.dumps(written | {"boot": "another"}))
    with pytest.raises(Lost):
        await run.go("true")
