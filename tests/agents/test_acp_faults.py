"""Agents that are missing, locked, mute, garbled, flooding, dying: each has its clear reason."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from tests.agents.runs import Run
from tests.agents.talks import Talk

from holdfast.agents import read
from holdfast.agents.acp import Limits, SessionWanted
from holdfast.domain.conversation import Noted, PermissionWanted, Spoke, TurnEnded


@pytest.fixture
def talk(run: Run) -> Talk:
    return Talk(run)


async def test_an_agent_that_is_not_there(talk: Talk) -> None:
    ended = await talk.go([], launch={"argv": ("no-such-agent", "--acp")})
    assert (ended.reason, ended.message) == ("start_failed", "command not found: no-such-agent")


async def test_an_agent_that_dies_at_its_start_is_quoted(talk: Talk) -> None:
    ended = await talk.go([], start=[{"stderr": "no \x1b[31mlicence\x1b[0m found"}, {"crash": {"code": 3}}])
    assert ended.reason == "start_failed"
    assert ended.message == "the agent ended before it had a session with exit code 3: no licence found"


async def test_an_agent_that_is_not_logged_in_names_its_ways_to_log_in(talk: Talk) -> None:
    ended = await talk.go([], auth="required")
    assert ended.reason == "not_logged_in"
    assert "it offers to log in by: Code word (code-word)" in ended.message


async def test_an_agent_is_logged_in_where_the_way_is_known(talk: Talk) -> None:
    wanted = SessionWanted(auth_method="code-word")
    assert (await talk.go([{"say": "in"}], session=wanted, auth="required")).reason == "end_turn"
    assert talk.said() == "in"


async def test_a_login_that_fails_is_told(talk: Talk) -> None:
    ended = await talk.go([], session=SessionWanted(auth_method="code-word"), auth="never")
    assert ended.reason == "not_logged_in"
    assert "the login was refused" in ended.message


async def test_another_version_of_the_protocol_is_refused(talk: Talk) -> None:
    ended = await talk.go([], protocol=2)
    assert (ended.reason, ended.message) == ("protocol_error", "the agent speaks version 2 of ACP, Holdfast 1")


@pytest.mark.parametrize(
    ("method", "words"), [("initialize", "did not answer initialize"), ("session/new", "opened no session")]
)
async def test_an_agent_that_never_answers_is_given_up(talk: Talk, method: str, words: str) -> None:
    limits = Limits(start_seconds=240.0, session_seconds=1.0)
    if method == "initialize":
        limits = Limits(start_seconds=0.5)
    ended = await talk.go([], limits=limits, mute=[method], launch={"grace_seconds": 0.5})
    assert ended.reason == "start_failed"
    assert words in ended.message


async def test_some_garbage_is_kept_and_borne(talk: Talk) -> None:
    ended = await talk.go([{"garbage": 8}, {"say": "fine"}])
    assert ended.reason == "end_turn"
    assert [note.data["line"] for note in talk.noted("garbage")] == [f"this is no message {n}" for n in range(5)]


async def test_much_garbage_ends_the_session(talk: Talk) -> None:
    ended = await talk.go([{"garbage": 101}, {"hang": True}])
    assert ended.reason == "protocol_error"
    assert "more than 100 lines that are no messages" in ended.message


NOT_MESSAGES = [
    "[]",
    "1",
    '"text"',
    "{}",
    '{"id": true, "method": "x"}',
    '{"id": null, "method": "x"}',
    '{"id": 1.5, "result": {}}',
    '{"id": 999, "result": {}}',
    "[" * 100_000,
    '{"method": ' + "[" * 5000 + "]" * 5000 + "}",
    '{"method": "x", "params": {"n": NaN}}',
    '{"method": "x", "params": {"n": 1e999}}',
    '{"method": "x", "params": {"n": ' + "9" * 10_000 + "}}",
    "\x00\x01",
]


async def test_whatever_is_no_message_is_garbage_and_nothing_more(talk: Talk) -> None:
    lines = "".join(line + "\n" for line in NOT_MESSAGES)
    (talk.run.cwd / "garbage").write_bytes(lines.encode() + b"\xff\xfe\n")
    start = f"cat garbage; exec {sys.executable} -m holdfast.agents.scripted {talk.script([{'say': 'fine'}])}"
    ended = await talk.go([{"say": "fine"}], launch={"argv": None, "shell": start})
    assert ended.reason == "end_turn"
    assert len(talk.noted("garbage")) == 5
    limits = Limits(garbage_lines=len(NOT_MESSAGES))
    again = Talk(talk.run)
    assert (await again.go([], limits=limits)).reason == "protocol_error"


async def test_text_that_no_database_takes_is_made_storable(talk: Talk) -> None:
    await talk.go([{"say": "a\x00b\ud800c"}, {"unknown_update": "odd\x00"}])
    assert talk.said() == "a\ufffdb\ufffdc"
    assert talk.noted("odd\ufffd")


async def test_a_line_that_is_too_long_ends_the_session(talk: Talk) -> None:
    ended = await talk.go([{"long_line": 1 << 20}, {"hang": True}], limits=Limits(line_bytes=1 << 17))
    assert ended.reason == "protocol_error"
    assert "a line of more than 131072 bytes" in ended.message
    assert sum(len(record.text) for record in read(talk.run.folder / "journal.jsonl")) < 1 << 18


async def test_a_session_whose_record_is_full_ends(talk: Talk) -> None:
    ended = await talk.go([{"flood": 3000}, {"hang": True}], launch={"journal_max_bytes": 1 << 17})
    assert ended.reason == "protocol_error"
    assert "the record of the session is full" in ended.message


async def test_a_flood_is_cut_with_a_mark_and_the_turn_goes_on(talk: Talk) -> None:
    limits = Limits(updates_per_second=100.0, updates_burst=50)
    ended = await talk.go([{"flood": 5000}, {"say": "after"}], limits=limits)
    assert ended.reason == "end_turn"
    assert isinstance(talk.updates[-1], TurnEnded)
    begin, *_, end = talk.noted("flood")
    assert "some are left out" in str(begin.data["text"])
    spoken = [update for update in talk.updates if isinstance(update, Spoke)]
    dropped = sum(int(note.data.get("dropped", 0)) for note in talk.noted("flood"))
    assert len(spoken) + dropped == 5001
    assert dropped > 0
    assert end.data["dropped"]


async def test_two_thousand_updates_a_second_are_no_flood(talk: Talk) -> None:
    ended = await talk.go([{"flood": 10_000}])
    assert ended.reason == "end_turn"
    assert talk.said() == "".join(f"{number} " for number in range(10_000))
    assert talk.noted("flood") == []


@pytest.mark.parametrize("kind", ["rate_limit", "overloaded"])
async def test_a_rate_limit_is_told_from_other_errors(talk: Talk, kind: str) -> None:
    ended = await talk.go([{"fail": kind}])
    assert ended.reason == "rate_limited"
    assert ended.session_id


async def test_a_login_that_ran_out_in_the_turn_is_told(talk: Talk) -> None:
    assert (await talk.go([{"fail": "auth"}])).reason == "not_logged_in"


async def test_another_error_of_the_agent_is_quoted(talk: Talk) -> None:
    ended = await talk.go([{"fail": "the model is confused"}])
    assert (ended.reason, ended.message) == ("agent_error", "the agent could not go on: the model is confused")
    assert talk.noted("error")[0].data["method"] == "session/prompt"


@pytest.mark.parametrize("reason", ["refusal", "max_tokens", "max_turn_requests"])
async def test_how_a_turn_stops_is_told(talk: Talk, reason: str) -> None:
    assert (await talk.go([{"stop": reason}])).reason == reason


async def test_an_unknown_reason_to_stop_breaks_the_protocol(talk: Talk) -> None:
    ended = await talk.go([{"stop": "boredom"}])
    assert ended.reason == "protocol_error"
    assert "answer to session/prompt is not valid" in ended.message


async def test_updates_that_are_unknown_or_invalid_are_kept(talk: Talk) -> None:
    invalid = {"sessionUpdate": "tool_call", "title": 3}
    turn = [
        {"unknown_update": "dream"},
        {"send": {"method": "session/update", "params": {"sessionId": "another", "update": invalid}}},
        {"send": {"method": "session/update", "params": {"update": 3}}},
        {"send": {"method": "_vendor/thing", "params": {"a": 1}}},
        {"say": "fine"},
    ]
    assert (await talk.go(turn)).reason == "end_turn"
    notes = [(update.what, update.data) for update in talk.updates if isinstance(update, Noted)][1:]
    assert notes == [
        ("dream", {"sessionUpdate": "dream", "detail": "something new"}),
        ("other_session", {"session": "another", "kind": "tool_call"}),
        ("invalid", {"update": {"update": 3}}),
        ("_vendor/thing", {"a": 1}),
    ]


async def test_requests_that_make_no_sense_are_refused(talk: Talk) -> None:
    turn = [
        {"send": {"id": "a", "method": "no/such", "params": {}}},
        {"send": {"id": "b", "method": "fs/read_text_file", "params": {"path": 3}}},
        {"send": {"id": "c", "method": "terminal/output", "params": {"sessionId": "s", "terminalId": "t9"}}},
        {"send": {"id": "d", "method": "terminal/kill", "params": {"sessionId": "s", "terminalId": "../../x"}}},
        {"sleep": 0.2},
    ]
    assert (await talk.go(turn)).reason == "end_turn"
    said = [json.loads(r.text) for r in read(talk.run.folder / "journal.jsonl") if r.kind == "stdin"]
    errors = {message["id"]: message["error"]["code"] for message in said if "error" in message}
    assert errors == {"a": -32601, "b": -32602, "c": -32002, "d": -32002}


async def test_an_agent_that_asks_too_much_at_once_is_ended(talk: Talk) -> None:
    talk.ask = never  # type: ignore[method-assign]
    asking = [{"send": question(number)} for number in range(6)]
    ended = await talk.go([*asking, {"hang": True}], limits=Limits(open_requests=5))
    assert (ended.reason, ended.message) == ("protocol_error", "the agent asked more than 5 things at once")


async def test_an_agent_that_uses_an_id_twice_is_ended(talk: Talk) -> None:
    talk.ask = never  # type: ignore[method-assign]
    ended = await talk.go([{"send": question(1)}, {"send": question(1)}, {"hang": True}])
    assert ended.reason == "protocol_error"
    assert "asked twice under the id" in ended.message


async def never(wanted: PermissionWanted) -> str | None:
    await asyncio.Event().wait()
    return None


def question(number: int) -> dict[str, object]:
    option = {"optionId": "allow", "name": "Allow", "kind": "allow_once"}
    params = {"sessionId": "s", "toolCall": {"toolCallId": "c"}, "options": [option]}
    return {"id": f"q{number}", "method": "session/request_permission", "params": params}
