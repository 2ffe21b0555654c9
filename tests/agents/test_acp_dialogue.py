"""The fold, without any process: however the records were cut, and whoever folds them from wherever, it is the same."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents.acp.dialogue import Dialogue
from holdfast.agents.acp.flood import Bucket
from holdfast.agents.acp.opening import next_step
from holdfast.agents.acp.terms import Limits, SessionWanted
from holdfast.agents.acp.wire import Lines, RpcError, parse
from holdfast.agents.journal import Record
from holdfast.domain.conversation import Noted, Spoke, ToolUsed, Update
from holdfast.settings import BadSetting, Settings

SESSION = "s1"


def update(name: str, /, **fields: object) -> dict[str, object]:
    return {"method": "session/update", "params": {"sessionId": SESSION, "update": {"sessionUpdate": name, **fields}}}


def said(text: str) -> dict[str, object]:
    return update("agent_message_chunk", content={"type": "text", "text": text})


ASKED = {
    "id": 1,
    "method": "session/request_permission",
    "params": {
        "sessionId": SESSION,
        "toolCall": {"toolCallId": "c", "title": "t"},
        "options": [{"optionId": "y", "name": "Y", "kind": "allow_once"}],
    },
}
OPENING: list[tuple[str, dict[str, object]]] = [
    ("stdin", {"id": 1, "method": "initialize", "params": {}}),
    ("stdout", {"id": 1, "result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}}),
    ("stdin", {"id": 2, "method": "session/new", "params": {"cwd": "/w", "mcpServers": []}}),
    ("stdout", {"id": 2, "result": {"sessionId": SESSION}}),
    ("stdin", {"id": 3, "method": "session/prompt", "params": {"prompt": [{"type": "text", "text": "go"}]}}),
]
ENDING: list[tuple[str, dict[str, object]]] = [
    ("stdout", ASKED),
    ("stdin", {"id": 1, "result": {"outcome": {"outcome": "selected", "optionId": "y"}}}),
    ("stdout", {"id": 3, "result": {"stopReason": "end_turn"}}),
]

messages = st.one_of(
    st.text(max_size=20).map(said),
    st.just(update("tool_call", toolCallId="c", title="t", kind="read")),
    st.just(update("tool_call_update", toolCallId="c", status="completed")),
    st.just(update("plan", entries=[{"content": "a", "priority": "low", "status": "pending"}])),
    st.just(update("usage_update", used=1, size=2, cost={"amount": 1.5, "currency": "USD"})),
    st.just(update("dream")),
    st.just({"garbage": True}),
)


@st.composite
def journals(draw: st.DrawFn) -> list[Record]:
    """Gives the records of a session of one turn, its standard output cut anywhere, between characters."""
    turn = [("stdout", message) for message in draw(st.lists(messages, max_size=8))]
    joined: list[tuple[str, str]] = []
    for kind, message in [*OPENING, *turn, *ENDING]:
        text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False) + "\n"
        if joined and kind == joined[-1][0] == "stdout":
            text = joined.pop()[1] + text
        joined.append((kind, text))
    pieces: list[tuple[str, str]] = []
    for kind, text in joined:
        cuts = draw(st.sets(st.integers(1, len(text) - 1), max_size=6)) if kind == "stdout" else set[int]()
        ends = [0, *sorted(cuts), len(text)]
        pieces += [(kind, text[i:j]) for i, j in pairwise(ends)]
    pace = draw(st.sampled_from([0.0, 0.01, 1.0]))
    return [Record(n, 1000.0 + n * pace, kind, {"text": text}) for n, (kind, text) in enumerate(pieces, 1)]


def told(updates: list[Update]) -> list[object]:
    """What was told, without where it came from."""
    return [(type(each), *(getattr(each, name) for name in each.__slots__ if name != "heard")) for each in updates]


def state_of(dialogue: Dialogue) -> dict[str, object]:
    names = ("position", "capabilities", "session", "in_flight", "turns", "open", "usage", "fault", "requests_sent")
    return {name: getattr(dialogue, name) for name in names}


SMALL = Limits(updates_per_second=5.0, updates_burst=4, garbage_lines=3)


@given(journals(), st.data())
def test_folding_in_any_pieces_comes_to_the_same(records: list[Record], data: st.DataObject) -> None:
    whole = Dialogue(limits=SMALL)
    expected = whole.fold(records)
    pieces = Dialogue(limits=SMALL)
    heard: list[Update] = []
    while pieces.position < len(records):
        size = data.draw(st.integers(1, 5))
        heard += pieces.fold(records[pieces.position : pieces.position + size])
    assert heard == expected
    assert state_of(pieces) == state_of(whole)


@given(journals(), st.data())
def test_workers_that_follow_each_other_hear_every_update_once(records: list[Record], data: st.DataObject) -> None:
    expected = Dialogue(limits=SMALL).fold(records)
    stored: list[Update] = []
    position = 0
    while position < len(records):
        reach = data.draw(st.integers(position + 1, len(records)))
        worker = Dialogue(position, SMALL)
        stored += worker.fold(records[:reach])
        position = reach
    assert stored == expected


@given(st.lists(messages, max_size=10), st.data())
def test_how_the_output_was_cut_does_not_show(turn: list[dict[str, object]], data: st.DataObject) -> None:
    text = "".join(json.dumps(message) + "\n" for message in turn)
    opening = [Record(n, 1.0, kind, {"text": json.dumps(m) + "\n"}) for n, (kind, m) in enumerate(OPENING, 1)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    cut = [Record(n, 1.0, "stdout", {"text": piece}) for n, piece in enumerate(pieces, len(opening) + 1)]
    whole = [Record(len(opening) + 1, 1.0, "stdout", {"text": text})]
    assert told(Dialogue().fold(opening + cut)) == told(Dialogue().fold(opening + whole))


@given(st.lists(st.text("ab\n", max_size=6), max_size=8))
def test_lines_are_put_together_from_any_pieces(pieces: list[str]) -> None:
    lines = Lines()
    heard = [line for piece in pieces for line in lines.feed(piece)]
    *whole, rest = "".join(pieces).split("\n")
    assert heard == [line for line in whole if line]
    assert lines.open_characters == len(rest)


@given(st.text() | st.binary().map(lambda raw: raw.decode(errors="replace")))
def test_any_line_is_a_message_or_none(line: str) -> None:
    parse(line)


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
HOSTILE_KEYS = ("id", "method", "params", "result", "error", "update", "sessionUpdate", "sessionId", "content", "type")
hostile = st.dictionaries(
    st.sampled_from(HOSTILE_KEYS),
    st.sampled_from(["session/update", "session/request_permission", "terminal/create", "tool_call", "text", 1, 3])
    | st.dictionaries(st.sampled_from(HOSTILE_KEYS), json_values, max_size=4)
    | json_values,
)


@given(st.lists(hostile, max_size=6))
def test_no_message_whatever_breaks_the_fold(turn: list[dict[str, object]]) -> None:
    said = [*OPENING, *(("stdout", message) for message in turn)]
    records = [Record(n, 1.0, kind, {"text": json.dumps(m) + "\n"}) for n, (kind, m) in enumerate(said, 1)]
    dialogue = Dialogue()
    json.dumps([repr(each) for each in dialogue.fold(records)])
    next_step(dialogue, SessionWanted(mode="x"), "/w")


def folded(*said: tuple[str, dict[str, object]]) -> tuple[Dialogue, list[Update]]:
    dialogue = Dialogue()
    records = [Record(n, 1.0, kind, {"text": json.dumps(m) + "\n"}) for n, (kind, m) in enumerate(said, 1)]
    return dialogue, dialogue.fold(records)


def test_a_result_that_only_points_to_a_terminal_gets_what_the_terminal_said() -> None:
    create = {"id": "t", "method": "terminal/create", "params": {"sessionId": SESSION, "command": "make"}}
    output = {"id": "u", "method": "terminal/output", "params": {"sessionId": SESSION, "terminalId": "t1"}}
    shown = [{"type": "terminal", "terminalId": "t1"}]
    dialogue, updates = folded(
        *OPENING,
        ("stdout", create),
        ("stdin", {"id": "t", "result": {"terminalId": "t1"}}),
        ("stdout", update("tool_call", toolCallId="c", title="make", content=shown)),
        ("stdout", output),
        ("stdin", {"id": "u", "result": {"output": "made", "truncated": False}}),
        ("stdout", update("tool_call_update", toolCallId="c", status="completed")),
    )
    assert dialogue.terminals == {1}
    last = updates[-1]
    assert isinstance(last, ToolUsed)
    assert last.output == "made"


def test_what_is_replayed_when_a_session_is_loaded_is_not_told() -> None:
    _, updates = folded(
        *OPENING[:2],
        ("stdin", {"id": 2, "method": "session/load", "params": {"sessionId": SESSION}}),
        ("stdout", said("old")),
        ("stdout", {"id": 2, "result": None}),
        ("stdout", said("late")),
        ("stdin", {"id": 3, "method": "session/prompt", "params": {"prompt": []}}),
        ("stdout", said("new")),
    )
    assert [each.text for each in updates if isinstance(each, Spoke)] == ["new"]


def test_modes_and_models_are_found_in_options_too() -> None:
    options = [{"value": "m1", "name": "One"}, {"value": "m2", "name": "Two"}]
    grouped = [{"group": "g", "name": "G", "options": options}]
    option = {"id": "pick", "name": "Model", "category": "model", "type": "select", "currentValue": "m1"}
    opened = {"id": 2, "result": {"sessionId": SESSION, "configOptions": [{**option, "options": grouped}]}}
    dialogue, _ = folded(*OPENING[:3], ("stdout", opened))
    assert dialogue.capabilities is not None
    assert [model.id for model in dialogue.capabilities.models] == ["m1", "m2"]
    step = next_step(dialogue, SessionWanted(model="Two"), "/w")
    assert getattr(step, "params", None) == {"sessionId": SESSION, "configId": "pick", "value": "m2"}


def test_the_limits_of_a_session_are_settings() -> None:
    assert Limits.of(Settings()) == Limits()
    assert Limits.of(Settings.read({"HOLDFAST_AGENT_TERMINALS": "3"})) == Limits(terminals=3)
    for variable, wrong in (("LINE_BYTES", "1000"), ("START_SECONDS", "0"), ("UPDATES_BURST", "many")):
        with pytest.raises(BadSetting, match=f"HOLDFAST_AGENT_{variable}: '{wrong}' is not a"):
            Settings.read({f"HOLDFAST_AGENT_{variable}": wrong})


def test_a_bucket_takes_its_burst_then_its_rate_and_counts_the_rest() -> None:
    bucket = Bucket(2.0, 4)
    assert [bucket.takes(0.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert bucket.forgive() == 2
    assert bucket.takes(0.5)
    assert not bucket.takes(0.5)


def test_errors_that_a_wait_heals_are_told_from_those_that_a_login_heals() -> None:
    waits = [
        RpcError(429, "no"),
        RpcError(-32603, "Overloaded"),
        RpcError(-1, "x", {"status": 529}),
        RpcError(1, "You have hit your usage limit"),
    ]
    assert all(error.rate_limited and not error.wants_login for error in waits)
    logins = [RpcError(-32000, "x"), RpcError(1, "Please log in: not logged in"), RpcError(1, "Unauthorized")]
    assert all(error.wants_login and not error.rate_limited for error in logins)
    assert not RpcError(-32603, "the file has 4290 lines").rate_limited


def test_notes_say_where_the_session_is() -> None:
    _, updates = folded(*OPENING)
    (note,) = [each for each in updates if isinstance(each, Noted)]
    assert (note.what, note.data["session_id"], note.heard.record) == ("session_opened", SESSION, 4)
