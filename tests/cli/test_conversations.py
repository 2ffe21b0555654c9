"""Conversations on the command line, of a task whose messages are in the database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.cli.conftest import Program

from holdfast.domain.conversation import (
    Conversation,
    FileDiff,
    Heard,
    Prompted,
    Spoke,
    TokenUsage,
    ToolUsed,
    TurnEnded,
    Update,
)
from holdfast.domain.transcript import Transcript
from holdfast.store import Database, messages, steps, tasks

PLAN = "title: Talk\nphases: [{title: Only, tasks: [{title: Speak, run: 'true'}, {title: Silent, run: 'true'}]}]\n"
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
BIG = "".join(f"line {number}\n" for number in range(5000))


def said() -> list[Update]:
    diff = FileDiff("a.py", "x = 1\n", "x = 2\n")
    return [
        Prompted(Heard(1, AT), "please do it"),
        Spoke(Heard(2, AT), "let me think", thought=True),
        Spoke(Heard(3, AT), "I will \x1b]0;evil\x07edit\x1b[31m it"),
        ToolUsed(Heard(4, AT), "1", "completed", "Edit a.py", "edit", {"path": "a.py"}, "edited", [diff]),
        ToolUsed(Heard(5, AT), "2", "failed", "Run tests", "execute", {}, BIG),
        Spoke(Heard(6, AT), "done"),
        TurnEnded(Heard(7, AT), "end_turn", TokenUsage(1000, 234, cost_usd=0.5)),
    ]


@pytest.fixture(scope="module")
def talked(shared: Program) -> Program:
    assert shared("run", shared.plan(PLAN)).code == 0
    database = Database.open(f"sqlite:///{shared.data}/holdfast.db", data=shared.data)
    with database.transaction() as connection:
        task = tasks.get(connection, tasks.find(connection, "T1"))
        step = steps.of_task(connection, task.id)[0]
    of = Conversation(task.plan_id, task.id)
    new = Transcript(of, step.id, "agent-0").feed(said(), 7).messages
    fitting, kept = messages.keep_big_results(shared.data / "blobs", new, 4096)
    with database.transaction() as connection:
        messages.append_all(connection, of, fitting, actor="worker:w", kept=kept, snapshot_every=4)
    database.close()
    return shared


def test_a_conversation_is_shown_as_a_dialogue_with_folded_results(talked: Program) -> None:
    shown = talked("conversation", "show", "T1").out
    assert "please do it" in shown
    assert "⚙ Edit a.py  edit" in shown
    assert "  edited\n  --- a/a.py\n" in shown
    assert "  +x = 2\n" in shown
    assert "line 0" in shown
    assert "line 100\n" not in shown
    assert "let me think" not in shown
    assert "\x1b" not in shown
    assert talked("task", "conversation", "T1").out == shown


def test_thoughts_and_whole_results_are_shown_where_asked_for(talked: Program) -> None:
    shown = talked("conversation", "show", "T1", "--thoughts", "--full").out
    assert "let me think" in shown
    assert "  line 4999\n" in shown
    assert "⚙" not in talked("conversation", "show", "T1", "--no-tool-calls").out


def test_a_terminal_gets_colours_and_nothing_of_the_agents_sequences(talked: Program) -> None:
    terminal = talked.on_terminal("conversation", "show", "T1")
    assert terminal.end() == 0
    assert "\x1b]" not in terminal.text
    assert "\x1b[31m it" not in terminal.text
    assert "\x1b[32m" in terminal.text


def test_a_conversation_is_a_document_by_pages(talked: Program) -> None:
    last = talked("conversation", "show", "T1", "--format", "json", "--limit", "3", "--thoughts").json
    assert [item["role"] for item in last["items"]] == ["assistant", "tool", "assistant"]
    assert last["head"] == last["head"] | {"message_count": 8, "token_count": 1234, "cost_usd": 0.5}
    assert last["items"][1]["result_blob"]
    before = talked("conversation", "show", "T1", "--json", "--before", last["next_cursor"], "--thoughts").json
    assert [item["position"] for item in before["items"]] == [0, 1, 2, 3, 4]
    assert before["next_cursor"] is None
    words = talked("conversation", "show", "T1", "--json", "--no-tool-calls", "--limit", "2").json
    assert [item["content"] for item in words["items"]][-1] == "done"
    assert len(words["items"]) == 2
    assert words["next_cursor"]
    assert talked("conversation", "show", "T1", "--before", "nonsense").code == 2


def test_a_table_has_a_line_per_message(talked: Program) -> None:
    shown = talked("conversation", "show", "T1", "--format", "table").out
    assert "1234" in shown
    assert "failed" in shown
    assert "$0.5000" in shown


def test_a_task_says_how_long_its_conversation_is(talked: Program) -> None:
    assert "8, 1,234 tokens, $0.50" in talked("task", "show", "T1").out
    assert "messages" not in talked("task", "show", "T2").out
    assert talked("conversation", "show", "T2").out == "T2 has no messages\n"


def test_snapshots_are_kept_and_listed(talked: Program) -> None:
    assert talked("conversation", "snapshot", "T1", "-m", "by hand").out == "snapshot of 8 messages\n"
    found = talked("conversation", "snapshots", "T1", "--json").json["items"]
    assert [(item["kind"], item["message_count"]) for item in found] == [("manual", 8), ("auto", 8), ("auto", 4)]
    assert "by hand" in talked("conversation", "snapshots", "T1").out
    assert talked("timeline", "--type", "chat", "--json").json["items"][0]["subtype"] == "snapshot"
    assert talked("conversation", "snapshots", "T2").out == "no snapshots\n"


def test_a_damaged_result_is_named_and_the_rest_is_shown(talked: Program) -> None:
    items = talked("conversation", "show", "T1", "--json").json["items"]
    digest = next(item["result_blob"] for item in items if item["result_blob"])
    place = talked.data / "blobs" / digest[:2] / digest[2:]
    kept = place.read_bytes()
    place.write_bytes(b"not it")
    try:
        refused = talked("conversation", "show", "T1", "--full")
        assert refused.code == 1
        assert digest in refused.err
        assert talked("conversation", "show", "T1").code == 0
    finally:
        place.write_bytes(kept)


def test_a_conversation_goes_back_before_a_call_and_comes_forth_again(talked: Program) -> None:
    back = ("conversation", "rewind", "T1")
    assert talked(*back, "--by-messages", "2").code == 2, "off a terminal it wants --yes"
    assert talked(*back, "--by-messages", "2", "--to-time", "1h", "--yes").code == 2
    would = talked(*back, "--by-messages", "2", "--dry-run").out
    assert (
        would
        == "would take the conversation of T1 back by 3 messages (so that no tool call is cut from its result), to 5\n"
    )
    done = talked(*back, "--by-messages", "2", "--yes")
    assert (done.code, done.out) == (0, "the conversation of T1 has 5 messages; 3 messages left behind (O1)\n")
    assert "the cut is before the call" in done.err
    assert talked("timeline", "--type", "chat", "--json").json["items"][0]["subtype"] == "rewound"
    coded = talked(*back, "--by-messages", "1", "--rewind-code", "--dry-run").out
    assert "take its code back to T1@2" in coded, "its checkpoints are of no message: they were before all"
    assert talked("conversation", "rewind", "P1", "--by-messages", "1", "--yes").code == 3, "nobody has spoken there"
    assert talked(*back, "--to-message", "ffffffff", "--yes").code == 4
    assert talked("undo", "O99", "--yes").code == 4
    assert talked("undo", "--yes").out == "undone: O1, conversation rewind of T1: messages 3 (O2)\n"
    assert talked("conversation", "show", "T1", "--json").json["head"]["message_count"] == 8
