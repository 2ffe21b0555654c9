"""A session over the real protocol: what an agent can ask for and say, and how it is opened, led and ended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.agents.runs import Run, eventually
from tests.agents.talks import EVERYTHING, Talk

from holdfast.agents import Launch, read
from holdfast.agents.acp import Limits, SessionWanted, run_session
from holdfast.domain.conversation import (
    FileDiff,
    PermissionWanted,
    Planned,
    Prompted,
    Spoke,
    TokenUsage,
    TurnEnded,
    UsageTold,
)


@pytest.fixture
def talk(run: Run) -> Talk:
    return Talk(run)


async def test_a_turn_tells_all_that_the_agent_did_in_its_order(talk: Talk) -> None:
    ended = await talk.go([{"plan": ["look", "write"]}, *EVERYTHING])
    assert (ended.reason, ended.exit_code, ended.turns) == ("end_turn", 0, 1)
    assert ended.usage == TokenUsage(input_tokens=7, output_tokens=3, cost_usd=0.25)
    assert talk.said() == "I begin. I may. I end."
    kinds = [type(update) for update in talk.updates if not isinstance(update, Spoke)]
    assert kinds[1:3] == [Prompted, Planned]
    assert kinds[-2:] == [UsageTold, TurnEnded]
    assert kinds.count(PermissionWanted) == 1
    calls = talk.calls()
    diffs = [call.diffs for call in calls if call.diffs]
    assert diffs[0] == [FileDiff(str(talk.run.cwd / "own"), None, "once\n")]
    ends = {call.id: call for call in calls if call.status == "completed"}
    assert [call.output for call in ends.values()] == [None, None, "from the terminal\n", ""]
    assert talk.positions == sorted(talk.positions)
    assert talk.positions[-1] == list(read(talk.run.folder / "journal.jsonl"))[-1].n


async def test_several_turns_are_one_session_that_remembers(talk: Talk) -> None:
    talk.prompts = ("one", "two", "three")
    ended = await talk.go([{"say": "<{history}>"}], [{"say": "<{prompt} after {turn}>"}])
    assert (ended.reason, ended.turns) == ("end_turn", 3)
    assert talk.said() == "<><two after 1><three after 2>"
    assert [opening.last and opening.last.reason for opening in talk.openings] == [None, *["end_turn"] * 3]


@pytest.mark.parametrize(("answer", "said"), [("allow", "yes"), ("reject", "no"), (None, "unheard")])
async def test_the_agent_gets_the_answer_to_its_question(talk: Talk, answer: str | None, said: str) -> None:
    talk.answer = answer
    asked = {"title": "Go?", "path": "x", "input": {"a": 1}}
    branches = {"allow": [{"say": "yes"}], "reject": [{"say": "no"}], "cancelled": [{"say": "unheard"}]}
    assert (await talk.go([{"ask": asked | branches}])).reason == "end_turn"
    assert talk.said() == said
    (question,) = talk.questions
    assert (question.request, question.call.title, question.call.input) == ("1", "Go?", {"a": 1})
    assert [identity for identity, _, _ in question.options] == ["allow", "always", "reject"]


async def test_an_answer_that_was_not_offered_is_the_callers_error(talk: Talk) -> None:
    talk.answer = "whatever"
    with pytest.raises(ValueError, match="not among the options"):
        await talk.go([{"ask": {"title": "Go?"}}])


async def test_mode_and_model_are_set_by_id_or_name(talk: Talk) -> None:
    wanted = SessionWanted(mode="code", model="large")
    options = {"modes": ["ask", "code"], "models": ["small", "large"]}
    ended = await talk.go([{"say": "{mode} {model}"}], session=wanted, **options)
    assert ended.reason == "end_turn"
    assert talk.said() == "code large"
    assert [mode.id for mode in ended.capabilities.modes] == ["ask", "code"]
    assert [model.id for model in ended.capabilities.models] == ["small", "large"]


async def test_a_model_that_the_agent_does_not_have_is_refused_with_those_it_has(talk: Talk) -> None:
    ended = await talk.go([], session=SessionWanted(model="huge"), models=["small", "large"])
    assert ended.reason == "start_failed"
    assert "no model 'huge'; it has: small, large" in ended.message


async def test_a_fork_knows_the_past_and_leaves_the_original_alone(make_run: Callable[[], Run]) -> None:
    first, fork, again = (Talk(make_run()) for _ in range(3))
    original = await first.go([{"say": "a"}])
    wanted = SessionWanted("fork", original.session_id)
    forked = await fork.go([], [{"say": "{history}"}], session=wanted)
    assert fork.said() == "user: do it\nagent: a"
    assert forked.session_id != original.session_id
    await again.go([], [{"say": "{history}"}], session=SessionWanted("load", original.session_id))
    assert again.said() == "user: do it\nagent: a"


@pytest.mark.parametrize("offered", [False, True])
async def test_where_a_session_cannot_be_forked_a_new_one_is_opened_that_knows_nothing(
    talk: Talk, offered: bool
) -> None:
    ended = await talk.go([], session=SessionWanted("fork", "session-gone"), fork=offered)
    assert ended.reason == "end_turn"
    assert [opening.carried for opening in talk.openings][:1] == [False]


async def test_stop_cancels_the_turn_and_ends_the_agent(talk: Talk) -> None:
    going = asyncio.ensure_future(talk.go([{"say": "up"}, {"hang": True}]))
    await talk.heard.wait()
    talk.stop.set()
    ended = await going
    assert (ended.reason, ended.turns) == ("cancelled", 1)
    assert talk.run.processes() == []


async def test_stop_answers_an_open_question_as_cancelled(talk: Talk) -> None:
    async def never(wanted: PermissionWanted) -> str | None:
        talk.stop.set()
        await asyncio.Event().wait()
        return None

    talk.ask = never  # type: ignore[method-assign]
    ended = await talk.go([{"ask": {"title": "Go?", "cancelled": [{"say": "not asked"}]}}])
    assert ended.reason == "cancelled"


async def test_an_agent_that_is_deaf_to_a_cancel_is_killed(talk: Talk) -> None:
    turn = [{"say": "up"}, {"hang": "deaf"}]
    # Deaf to signals from its start: it says "up" a moment before it is.
    shell = f"trap '' TERM; exec {sys.executable} -m holdfast.agents.scripted {talk.script(turn)}"
    launch = {"argv": None, "shell": shell, "grace_seconds": 0.2}
    going = asyncio.ensure_future(talk.go(turn, launch=launch))
    await talk.heard.wait()
    talk.stop.set()
    ended = await going
    assert (ended.reason, ended.signal) == ("stopped", 9)
    assert talk.run.processes() == []


async def test_a_time_limit_ends_the_session(talk: Talk) -> None:
    ended = await talk.go([{"hang": True}], launch={"timeout_seconds": 2.0, "grace_seconds": 1.0})
    assert ended.reason == "timeout"


async def test_terminals_end_with_the_session(talk: Talk) -> None:
    talk.run.cwd.joinpath("sub").mkdir()
    turn = [{"send": terminal(7, "session-x", "echo $$ > pid; sleep 1000")}, {"await": "sub/pid"}]
    ended = await talk.go(turn)
    assert ended.reason == "end_turn"
    assert talk.run.processes() == []


def terminal(identity: int, session: str, command: str) -> dict[str, object]:
    params = {"sessionId": session, "command": command, "cwd": "sub"}
    return {"id": identity, "method": "terminal/create", "params": params}


async def test_a_terminal_in_a_subfolder_is_started_from_the_worktree(talk: Talk) -> None:
    (talk.run.cwd / "sub folder").mkdir()
    turn = [{"run": {"command": "pwd", "cwd": "sub folder", "terminal": True}}, {"say": "{output}"}]
    assert (await talk.go(turn)).reason == "end_turn"
    assert talk.said() == f"{talk.run.cwd / 'sub folder'}\n"
    launch = json.loads((talk.run.folder / "terminals" / "1" / "launch.json").read_text())
    assert launch["cwd"] == str(talk.run.cwd)


async def test_the_agent_and_its_terminals_run_in_what_the_caller_wraps_them_in(talk: Talk) -> None:
    def wrapped(launch: Launch, folder: Path) -> Launch:
        return replace(launch, env={**launch.env, "WRAPPED": f"{launch.env.get('WRAPPED', '')}/{folder.name}"})

    ended = await run_session(
        talk.run.folder,
        talk.launch(
            talk.script(
                [
                    {"run": {"command": "echo $WRAPPED", "terminal": True}},
                    {"say": "terminal{output}"},
                    {"run": "echo $WRAPPED"},
                    {"say": "agent{output}"},
                ]
            )
        ),
        SessionWanted(),
        talk.next_prompt,
        on_updates=talk.keep,
        ask=talk.ask,
        stop=talk.stop,
        wrap=wrapped,
    )
    assert ended.reason == "end_turn"
    assert talk.said() == f"terminal/1\nagent/{talk.run.folder.name}\n", "each once, with its own folder"


async def test_a_long_output_of_a_terminal_is_cut_from_its_beginning(talk: Talk) -> None:
    turn = [{"run": {"command": "seq 1 20000", "terminal": True}}, {"say": "{output}"}]
    assert (await talk.go(turn, limits=Limits(terminal_output_bytes=1000))).reason == "end_turn"
    assert len(talk.said()) == 1000
    assert talk.said().endswith("\n19999\n20000\n")


async def test_files_outside_of_the_worktree_are_neither_read_nor_written(talk: Talk) -> None:
    outside = talk.run.folder.parent / "outside"
    outside.mkdir(parents=True)
    outside.joinpath("secret").write_text("secret")
    (talk.run.cwd / "way").symlink_to(outside)
    turn = []
    for path in (str(outside / "secret"), "../outside/secret", "way/secret"):
        turn += [{"read": {"path": path, "client": True}}, {"say": "{output}|"}]
        turn += [{"write": {"path": path, "text": "changed", "client": True}}]
    assert (await talk.go(turn)).reason == "end_turn"
    assert outside.joinpath("secret").read_text() == "secret"
    assert "secret|" not in talk.said()
    assert [call.status for call in talk.calls() if call.status != "in_progress"] == ["failed"] * 6


async def test_what_is_not_offered_is_refused(talk: Talk) -> None:
    wanted = SessionWanted(reads_files=False, writes_files=False, terminals=False)
    turn = [
        {"read": {"path": "a", "client": True}},
        {"write": {"path": "b", "text": "", "client": True}},
        {"run": {"command": "touch c", "terminal": True}},
    ]
    assert (await talk.go(turn, session=wanted)).reason == "end_turn"
    assert [call.status for call in talk.calls() if call.status != "in_progress"] == ["failed"] * 3
    assert list(talk.run.cwd.iterdir()) == []


async def test_an_error_of_the_store_leaves_the_agent_running_to_be_adopted(talk: Talk) -> None:
    async def full(updates: object, position: int) -> None:
        raise OSError("disk full")

    keep, talk.keep = talk.keep, full  # type: ignore[method-assign]
    with pytest.raises(OSError, match="disk full"):
        await talk.go(EVERYTHING)
    talk.keep = keep  # type: ignore[method-assign]
    assert (await talk.go(EVERYTHING)).reason == "end_turn"
    assert talk.file("own") == "once\n"


async def test_cancelling_the_worker_leaves_the_agent_running(talk: Talk) -> None:
    turn = [{"say": "up "}, {"await": "go"}, {"say": "end"}]
    going = asyncio.ensure_future(talk.go(turn))
    await talk.heard.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    eventually(talk.run.processes)
    (talk.run.cwd / "go").touch()
    assert (await talk.go(turn)).reason == "end_turn"
    assert talk.said() == "up end"
