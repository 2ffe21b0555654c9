"""Workers, agents and shims killed with SIGKILL in the middle of a session: nothing lost, nothing done twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agents.runs import Run, eventually
from tests.agents.talks import EVERYTHING, Talk

from holdfast.agents import RunState, kill_strays, read, state
from holdfast.agents.acp import SessionWanted
from holdfast.agents.acp.dialogue import Dialogue
from holdfast.domain.conversation import PermissionWanted, Prompted, TurnEnded
from holdfast.errors import ClaimLost

WORKER = Path(__file__).with_name("session_process.py")


class Worker:
    """One worker process in a session of two prompts, and what was stored by it and those before it."""

    def __init__(self, talk: Talk, script: Path, failpoint: str = "") -> None:
        self.talk = talk
        self.store = talk.run.folder.parent / "store"
        places = {"folder": talk.run.folder, "cwd": talk.run.cwd, "store": self.store, "script": script}
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps({k: str(v) for k, v in {**places, "home": talk.home}.items()})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOLDFAST_FAILPOINT": failpoint} if failpoint else dict(os.environ),
        )

    def ends(self) -> dict[str, str]:
        out, err = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, err
        return json.loads(out)

    def dies(self) -> None:
        _, err = self.process.communicate(timeout=240)
        assert self.process.returncode == -signal.SIGKILL, err

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.store.read_text().splitlines()] if self.store.exists() else []

    def updates(self) -> list[str]:
        return [update for line in self.lines() for update in line.get("updates", ())]  # type: ignore[union-attr]

    def questions(self) -> list[object]:
        return [line["question"] for line in self.lines() if "question" in line]


@pytest.fixture
def talk(run: Run) -> Talk:
    return Talk(run)


def assert_whole(worker: Worker, turns: int = 2) -> None:
    """What is stored is what the journal tells; nothing was said to the agent twice; each effect is there once."""
    talk = worker.talk
    records = list(read(talk.run.folder / "journal.jsonl"))
    assert worker.updates() == [repr(update) for update in Dialogue().fold(records)]
    names = [record.fields["id"] for record in records if record.kind == "stdin"]
    assert len(names) == len(set(names))
    assert [record.kind for record in records].count("started") == 1
    for name, line in {"own": "once\n", "terminal": "ran\n", "shell": "ran\n"}.items():
        assert talk.file(name) == line * turns
    assert talk.file("through/client") == "written\n"
    assert talk.run.processes() == []


POINTS = [
    "launch.recorded",
    "launch.started",
    "session.sending:1",
    "session.sent:2",
    "session.sending:3",
    "session.sent:3",
    "session.told:2",
    "session.answer_ready:1",
    "session.file_written",
    "session.terminal_started",
    "session.sent:7",
    "session.turn_ended",
    "session.told:12",
]


# Every third one always, the others with `just test-all`.
SOME = [pytest.param(point, marks=[] if n % 3 == 2 else [pytest.mark.campaign]) for n, point in enumerate(POINTS)]


@pytest.mark.parametrize("point", SOME)
def test_a_worker_killed_anywhere_is_replaced_and_the_agent_notices_nothing(talk: Talk, point: str) -> None:
    script = talk.script(EVERYTHING)
    Worker(talk, script, point).dies()
    second = Worker(talk, script)
    assert second.ends()["reason"] == "end_turn"
    assert_whole(second)


def test_workers_killed_one_after_the_other_at_every_step_come_to_the_same(talk: Talk) -> None:
    script = talk.script(EVERYTHING)
    for point in ("session.sent:1", "session.sent:2", "session.told:3", "session.answer_ready:2", "session.sent:3"):
        Worker(talk, script, point).dies()
    last = Worker(talk, script)
    assert last.ends()["reason"] == "end_turn"
    assert_whole(last)


def test_a_question_outlives_its_worker_and_is_answered_once(talk: Talk) -> None:
    hold = talk.run.cwd / "hold"
    hold.touch()
    script = talk.script(EVERYTHING)
    first = Worker(talk, script)
    eventually(first.questions)
    first.kill()
    second = Worker(talk, script)
    eventually(lambda: len(second.questions()) == 2)
    hold.unlink()
    assert second.ends()["reason"] == "end_turn"
    assert second.questions()[0] == second.questions()[1]
    assert_whole(second)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_tool_that_runs_when_the_worker_is_killed_runs_on(talk: Talk, terminal: bool) -> None:
    command = "echo started >> tool; while [ ! -e go ]; do sleep 0.02; done; echo ended >> tool"
    script = talk.script([{"run": {"command": command, "terminal": terminal}}, {"say": "{output}"}])
    first = Worker(talk, script)
    tool = talk.run.cwd / "tool"
    eventually(tool.exists)
    first.kill()
    second = Worker(talk, script)
    eventually(lambda: sum('"client"' in line for line in journal_lines(talk)) == 2)
    (talk.run.cwd / "go").touch()
    assert second.ends()["reason"] == "end_turn"
    assert tool.read_text() == "started\nended\n" * 2
    records = list(read(talk.run.folder / "journal.jsonl"))
    assert second.updates() == [repr(update) for update in Dialogue().fold(records)]


def test_a_turn_that_ended_without_a_worker_is_heard_to_its_end(talk: Talk) -> None:
    script = talk.script([{"await": "go"}, {"say": "done"}])
    first = Worker(talk, script)
    eventually(lambda: any("session/prompt" in line for line in journal_lines(talk)))
    first.kill()
    (talk.run.cwd / "go").touch()
    eventually(lambda: any("end_turn" in line for line in journal_lines(talk)))
    second = Worker(talk, script)
    assert second.ends()["reason"] == "end_turn"
    assert second.updates() == [repr(u) for u in Dialogue().fold(list(read(talk.run.folder / "journal.jsonl")))]


def test_an_agent_that_died_without_a_worker_is_told_as_dead(talk: Talk) -> None:
    script = talk.script([{"say": "before"}, {"await": "go"}, {"stderr": "no more"}, {"crash": {"code": 3}}])
    first = Worker(talk, script)
    eventually(lambda: any("before" in update for update in first.updates()))
    first.kill()
    (talk.run.cwd / "go").touch()
    eventually(lambda: state(talk.run.folder) is RunState.ENDED)
    second = Worker(talk, script)
    ended = second.ends()
    assert ended["reason"] == "agent_died"
    assert "exit code 3" in ended["message"]
    assert "no more" in ended["message"]
    assert ended["session"].startswith("session-")


def journal_lines(talk: Talk) -> list[str]:
    path = talk.run.folder / "journal.jsonl"
    return path.read_text().splitlines() if path.exists() else []


# -- the agent dies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [True, False])
async def test_an_agent_killed_in_mid_turn_goes_on_with_its_session(make_run: Callable[[], Run], resume: bool) -> None:
    turn = [{"say": "I know: {history}. "}, {"once": "crashed", "crash": {"signal": 9}}, {"say": "done"}]
    first = Talk(make_run())
    died = await first.go(turn, resume=resume)
    assert (died.reason, died.signal, died.turns) == ("agent_died", 9, 1)
    assert died.capabilities.load
    second = Talk(make_run(), prompts=("go on",))
    second.run.cwd = first.run.cwd
    wanted = SessionWanted("load", died.session_id)
    ended = await second.go(turn, resume=resume, session=wanted)
    assert (ended.reason, ended.session_id) == ("end_turn", died.session_id)
    assert second.openings[0].carried
    # What was said before is known to the agent, and not told again.
    assert second.said() == "I know: user: do it. done"
    assert [update.text for update in second.updates if isinstance(update, Prompted)] == ["go on"]


async def test_where_a_session_cannot_be_loaded_a_new_one_asks_for_the_conversation(
    make_run: Callable[[], Run],
) -> None:
    for options in ({"load": False}, {}):
        talk = Talk(make_run())
        ended = await talk.go([{"say": "fresh"}], session=SessionWanted("load", "session-unknown"), **options)
        assert ended.reason == "end_turn"
        assert not talk.openings[0].carried
        assert ended.session_id not in ("", "session-unknown")


async def test_a_shim_killed_in_mid_turn_leaves_a_lost_session_that_can_be_loaded(
    make_run: Callable[[], Run],
) -> None:
    first = Talk(make_run())
    turn = [{"say": "up"}, {"run": {"command": "touch running; sleep 1000", "terminal": True}}]
    going = asyncio.ensure_future(first.go(turn))
    await asyncio.to_thread(eventually, (first.run.cwd / "running").exists)
    os.kill(first.run.shim(), signal.SIGKILL)
    lost = await going
    assert lost.reason == "lost"
    assert lost.capabilities.load
    kill_strays(first.run.token)
    assert first.run.processes() == []
    second = Talk(make_run(), prompts=("go on",))
    second.run.cwd = first.run.cwd
    ended = await second.go([{"say": "{history}"}], session=SessionWanted("load", lost.session_id))
    assert (ended.reason, second.said()) == ("end_turn", "user: do it")


async def test_a_session_from_before_a_restart_of_the_machine_is_lost_and_known(run: Run) -> None:
    talk = Talk(run)
    assert (await talk.go([{"say": "said"}])).reason == "end_turn"
    launch = json.loads((run.folder / "launch.json").read_text())
    (run.folder / "launch.json").write_text(json.dumps({**launch, "boot": "another"}))
    again = Talk(run)
    ended = await again.go([{"say": "said"}])
    assert (ended.reason, ended.turns) == ("lost", 1)
    assert ended.session_id
    assert again.updates == talk.updates
    assert isinstance(again.updates[-1], TurnEnded)


async def test_an_agent_that_leaves_children_behind_leaves_none(run: Run) -> None:
    talk = Talk(run)
    ended = await talk.go([{"leave_children": 2}, {"crash": {"code": 0}}])
    assert (ended.reason, ended.exit_code) == ("agent_died", 0)
    assert run.processes() == []


async def test_an_agent_killed_while_it_waits_for_an_answer_takes_its_question_along(run: Run) -> None:
    talk = Talk(run)
    asked, withdrawn = asyncio.Event(), asyncio.Event()

    async def ask(wanted: PermissionWanted) -> str | None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            withdrawn.set()
        return None

    talk.ask = ask  # type: ignore[method-assign]
    going = asyncio.ensure_future(talk.go([{"ask": {"title": "May I?"}}]))
    await asked.wait()
    for pid in run.processes():
        os.kill(pid, signal.SIGKILL)
    ended = await going
    assert (ended.reason, ended.signal) == ("agent_died", 9)
    assert withdrawn.is_set()


async def test_an_agent_killed_while_its_terminal_runs_leaves_no_process(run: Run) -> None:
    talk = Talk(run)
    going = asyncio.ensure_future(talk.go([{"run": {"command": "echo $$ > pid; sleep 1000", "terminal": True}}]))
    await asyncio.to_thread(eventually, (run.cwd / "pid").exists)
    (agent,) = (record for record in read(run.folder / "journal.jsonl") if record.kind == "started")
    os.kill(int(str(agent.fields["pid"])), signal.SIGKILL)
    assert (await going).reason == "agent_died"
    assert run.processes() == []


async def test_a_worker_that_was_replaced_stops_working_on_the_session(run: Run) -> None:
    first, second = Talk(run), Talk(run)
    turn = [{"say": "up "}, {"await": "go"}, {"append": {"path": "own", "text": "once\n"}}]
    replaced = asyncio.ensure_future(first.go(turn))
    await first.heard.wait()
    going = asyncio.ensure_future(second.go(turn))
    with pytest.raises(ClaimLost):
        await replaced
    (run.cwd / "go").touch()
    assert (await going).reason == "end_turn"
    assert (second.said(), second.file("own")) == ("up ", "once\n")
