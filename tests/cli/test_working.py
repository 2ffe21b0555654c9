"""Working on plans: exit codes, gates, failures, pauses, kills; each with the real program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import SLOW, Program

GATED = """
title: Gated
gates: [plan]
phases: [{title: Only, tasks: [{title: Write, run: echo x > x}]}]
"""
FAILING = """
title: Failing
defaults: {max_attempts: 2}
phases:
  - title: Only
    tasks:
      - {title: Break, run: "echo broken pipe >&2; exit 3"}
      - {title: After, run: echo y > y, depends_on: [break]}
"""
MANUAL = """
title: By hand
phases:
  - title: Only
    mode: manual
    tasks: [{title: First, run: echo f > f}, {title: Second, run: echo s > s}]
"""


def effects(program: Program) -> list[str]:
    return sorted((program.data / "effects").read_text().split())


def let_go(program: Program) -> None:
    """Lets the two sides of the slow plan come to their ends."""
    (program.data / "go").touch()


def read_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> list[str]:
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if wanted(line):
            return seen
    raise AssertionError(f"it ended before: {''.join(seen)}")


def started_both(line: str) -> bool:
    event = json.loads(line)["event"]
    return event["type"] == "step" and event["subtype"] == "started" and event["data"]["number"] == 3


def test_a_dry_run_stores_nothing(ready: Program) -> None:
    result = ready("run", ready.plan(SLOW), "--dry-run")
    assert result.code == 0
    assert "Left" in result.out
    assert ready("plan", "list", "--json").json["items"] == []


def test_a_draft_is_made_executed_and_followed(ready: Program) -> None:
    made = ready("plan", "new", ready.plan("title: D\nphases: [{title: P, tasks: [{title: T, run: 'true'}]}]\n"))
    assert "P1 is a draft" in made.out
    assert ready("plan", "list", "--status", "draft", "--json").json["items"][0]["number"] == 1
    lines = ready("plan", "execute", "P1", "--json").lines
    assert lines[-1]["exit_code"] == 0
    assert lines[-1]["result"]["plan"]["status"] == "completed"
    ids = [line["event"]["id"] for line in lines[:-1]]
    assert ids == sorted(set(ids))
    assert ready("plan", "execute", "P1").code == 3


def test_a_gate_is_waited_at_decided_and_passed(ready: Program) -> None:
    stopped = ready("run", ready.plan(GATED))
    assert stopped.code == 7
    assert "holdfast approve A1" in stopped.out
    assert "A1" in ready("approvals").out
    assert ready("approve", "P1", "-m", "fine").code == 0
    assert ready("approve", "A1").code == 3
    assert "fine" in ready("approvals", "--all").out
    resumed = ready("resume")
    assert resumed.code == 0, resumed
    assert ready("approvals", "--json").json["items"] == []


def test_a_person_on_a_terminal_is_asked_at_a_gate(ready: Program) -> None:
    terminal = ready.on_terminal("run", ready.plan(GATED))
    terminal.wait_for("Approve?")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "completed" in terminal.text


def test_a_person_may_decide_later(ready: Program) -> None:
    terminal = ready.on_terminal("run", ready.plan(GATED))
    terminal.wait_for("Approve?")
    terminal.type("later\n")
    assert terminal.end() == 7
    assert ready("reject", "A1", "-m", "not so").code == 0
    sent_back = ready("resume")
    assert sent_back.code == 7
    assert "not so" in sent_back.out


def test_tasks_of_a_manual_phase_wait_each_for_its_approval(ready: Program) -> None:
    assert ready("run", ready.plan(MANUAL)).code == 7
    assert ready("task", "approve", "first").code == 0
    assert ready("resume").code == 7
    assert ready("task", "reject", "second").code == 0
    result = ready("resume", "--json")
    assert result.code == 0, result.err
    assert [task["status"] for task in result.lines[-1]["result"]["tasks"]] == ["completed", "skipped"]


def test_a_failed_task_says_why_and_is_retried_skipped_or_completed_by_hand(ready: Program) -> None:
    failed = ready("run", ready.plan(FAILING))
    assert failed.code == 6
    assert "broken pipe" in failed.out
    assert "holdfast task retry T1" in failed.out
    assert ready("task", "retry", "T1").code == 0
    assert ready("task", "retry", "T1").code == 3
    assert ready("resume").code == 6
    assert ready("task", "skip", "T1").code == 2, "off a terminal it wants --yes"
    assert "would skip" in ready("task", "skip", "T1", "--dry-run").out
    completed = ready("task", "complete", "T1")
    assert completed.code == 0, completed.err
    assert ready("resume").code == 0
    assert ready("status", "P1", "--json").json["plan"]["status"] == "completed"
    for words in (("task", "skip", "T1"), ("plan", "cancel", "P1")):
        late = ready(*words)
        assert late.code == 3, "refused before anything is asked"
        assert "P1 is completed: " in late.err
        assert "hint: " in late.err


def test_a_plan_is_paused_cancelled_and_resumed_without_a_worker(ready: Program) -> None:
    assert ready("run", ready.plan(GATED), "--detach").code == 0
    paused = ready("plan", "pause", "P1")
    assert paused.code == 0
    assert "paused" in paused.out
    assert ready("plan", "cancel", "P1").code == 2
    assert "would cancel" in ready("plan", "cancel", "P1", "--dry-run").out
    assert ready("plan", "cancel", "P1", "--yes", "--json").json["plan"]["status"] == "cancelled"
    assert ready("resume", "P1").code == 3


def test_a_detached_plan_is_carried_out_by_a_worker_and_watched(ready: Program) -> None:
    assert ready("run", ready.plan(GATED.replace("gates: [plan]", "")), "--detach").code == 0
    ready.environment["HOLDFAST_BACKUP_ON_START"] = "1"
    worker = ready.start("worker", "--json")
    read_until(worker, lambda line: json.loads(line)["event"]["subtype"] == "completed" and '"plan"' in line)
    assert len(list((ready.data / "backups").glob("*-start.db"))) == 1
    refused = ready("worker")
    assert refused.code == 5
    assert str(worker.pid) in refused.err
    assert [each["alive"] for each in ready("status", "--json").json["workers"]] == [True]
    second = ready("run", ready.plan(GATED.replace("gates: [plan]", "")))
    assert second.code == 0
    assert f"another worker (pid {worker.pid})" in second.err
    assert ready("watch", "P2").code == 0
    worker.send_signal(signal.SIGTERM)
    worker.communicate()
    assert worker.returncode == 0


def test_killed_in_the_middle_it_is_resumed_and_every_effect_happens_once(ready: Program) -> None:
    worker = ready.start("run", ready.plan(SLOW), "--json")
    read_until(worker, started_both)
    worker.kill()
    worker.communicate()
    shown = ready("status")
    assert "interrupted at: " in shown.out
    assert ready("status", "--json").json["interrupted"] == ["P1"]
    let_go(ready)
    resumed = ready("resume")
    assert resumed.code == 0, resumed
    assert "P1 Slow one was interrupted: " in resumed.err
    assert effects(ready) == ["left", "right"]
    assert ready("db", "check").code == 0
    assert "nothing is interrupted" in ready("resume").out


def test_sigterm_leaves_at_once_and_lets_the_commands_run_on(ready: Program) -> None:
    worker = ready.start("run", ready.plan(SLOW), "--json")
    read_until(worker, started_both)
    worker.send_signal(signal.SIGTERM)
    worker.communicate()
    assert worker.returncode == 143
    let_go(ready)
    assert ready("resume").code == 0
    assert effects(ready) == ["left", "right"]


def test_ctrl_c_lets_running_tasks_finish_and_resume_goes_on(ready: Program) -> None:
    terminal = ready.on_terminal("run", ready.plan(SLOW))
    terminal.wait_for("left 1", "right 1")
    terminal.type("\x03")
    terminal.wait_for("what runs may finish")
    let_go(ready)
    assert terminal.end() == 130
    assert effects(ready) == ["left", "right"]
    view = ready("status", "P1", "--json").json
    assert (view["plan"]["status"], view["plan"]["pause_reason"]) == ("paused", "user")
    assert ready("resume", "P1").code == 0


def test_ctrl_c_twice_stops_running_tasks_at_once(ready: Program) -> None:
    terminal = ready.on_terminal("run", ready.plan(SLOW))
    terminal.wait_for("left 1", "right 1")
    terminal.type("\x03")
    terminal.wait_for("what runs may finish")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert not (ready.data / "effects").exists()
    assert ready("status", "P1", "--json").json["plan"]["status"] == "paused"


def test_a_third_ctrl_c_leaves_at_once(ready: Program) -> None:
    stubborn = SLOW.replace("for i", "trap '' TERM; for i")
    terminal = ready.on_terminal("run", ready.plan(stubborn))
    terminal.wait_for("left 1", "right 1")
    for words in ("what runs may finish", "leaves at once"):
        terminal.type("\x03")
        terminal.wait_for(words)
    terminal.type("\x03")
    assert terminal.end() == 130
    let_go(ready)
    assert "holdfast resume" in terminal.text


def test_the_live_board_fits_a_narrow_and_low_terminal(ready: Program) -> None:
    many = "title: Many\nphases:\n" + "".join(
        f"  - title: Phase {n}\n    mode: parallel\n    tasks:\n"
        + "".join(f"      - {{title: A rather long title of task {n} {m}, run: echo {m}}}\n" for m in range(4))
        for n in range(3)
    )
    terminal = ready.on_terminal("run", ready.plan(many), rows=8, columns=30)
    assert terminal.end() == 0
    live = terminal.text.split("\x1b[?25h")[0]
    frames = live.split("\x1b[?25l")[-1].split("\x1b[2K")
    assert len(frames) > 2
    too_high = [frame for frame in frames if frame.count("\n") > 8]
    assert not too_high, too_high[:1]


def test_a_budget_that_is_used_up_pauses_with_its_own_exit_code(ready: Program) -> None:
    budgeted = "budget: {max_seconds: 0.2}\n" + SLOW.lstrip()
    result = ready("run", ready.plan(budgeted))
    assert result.code == 9, result
    assert "budget" in result.out


def test_nothing_is_left_in_the_users_repository(ready: Program) -> None:
    before = snapshot(ready.repository / ".git")
    assert ready("run", ready.plan(GATED.replace("gates: [plan]", ""))).code == 0
    assert snapshot(ready.repository / ".git") == before


def snapshot(folder: Path) -> dict[str, bytes]:
    return {os.path.relpath(path, folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
