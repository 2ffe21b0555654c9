"""The fold of updates into messages: the same messages whatever the batches, the deaths and the floods."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.conversation import (
    Conversation,
    FileDiff,
    Heard,
    Message,
    MessageRole,
    Noted,
    PermissionWanted,
    Planned,
    Prompted,
    Spoke,
    TokenUsage,
    ToolUsed,
    TurnEnded,
    Update,
    UsageTold,
)
from holdfast.domain.transcript import INPUT_CHARACTERS, OPEN_CALLS, TEXT_CHARACTERS, Mark, Transcript, bounded

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
CONVERSATION = Conversation("plan", "task")


def at(record: int) -> Heard:
    return Heard(record, AT + timedelta(seconds=record))


def transcript(mark: Mark | None = None) -> Transcript:
    return Transcript(CONVERSATION, "step", "agent-0", mark)


def fold(*updates: Update) -> tuple[Message, ...]:
    return transcript().feed(updates, updates[-1].heard.record).messages


def said(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [
        (str(each.role), each.content or each.tool_result or "".join(f"-> {c['name']}" for c in each.tool_calls))
        for each in messages
    ]


def test_pieces_of_speech_are_one_message_until_another_kind_begins() -> None:
    messages = fold(
        Prompted(at(1), "do it"),
        Spoke(at(2), "let me ", thought=True),
        Spoke(at(3), "see", thought=True),
        Spoke(at(4), "I "),
        UsageTold(at(4), TokenUsage(input_tokens=1)),
        Spoke(at(5), "will"),
        Spoke(at(6), "next", message_id="m2"),
        TurnEnded(at(7), "end_turn"),
    )
    assert said(messages) == [
        ("user", "do it"),
        ("assistant", "let me see"),
        ("assistant", "I will"),
        ("assistant", "next"),
    ]
    assert [each.thought for each in messages] == [False, True, False, False]
    assert [each.at for each in messages] == [at(1).at, at(2).at, at(4).at, at(6).at]


def test_a_tool_call_is_two_messages_once_it_has_ended() -> None:
    fed = transcript()
    begun = (
        ToolUsed(at(1), "c", status="pending", title="Edit a.py", kind="edit", input={"path": "a.py"}),
        ToolUsed(at(2), "c", status="in_progress"),
    )
    assert fed.feed(begun, 2).messages == ()
    ended = ToolUsed(at(3), "c", status="completed", output="done\n", diffs=[FileDiff("a.py", "x\n", "y\n")])
    call, result = fed.feed((ended,), 3).messages
    assert call.tool_calls == ({"id": "c", "name": "Edit a.py", "input": {"path": "a.py"}, "kind": "edit"},)
    assert (result.role, result.tool_name, result.tool_input) == (MessageRole.TOOL, "Edit a.py", {"path": "a.py"})
    assert result.tool_result == "done\n--- a/a.py\n+++ b/a.py\n@@ -1,1 +1,1 @@\n-x\n+y"
    assert not result.is_error


def test_calls_side_by_side_keep_each_result_right_after_its_call() -> None:
    messages = fold(
        ToolUsed(at(1), "a", title="A"),
        ToolUsed(at(2), "b", title="B"),
        Spoke(at(3), "waiting"),
        ToolUsed(at(4), "b", status="failed", output="no"),
        ToolUsed(at(5), "a", status="completed", output="yes"),
    )
    assert said(messages) == [
        ("assistant", "waiting"),
        ("assistant", "-> B"),
        ("tool", "no"),
        ("assistant", "-> A"),
        ("tool", "yes"),
    ]
    assert [each.is_error for each in messages] == [False, False, True, False, False]


def test_a_call_that_the_turn_ended_without_is_an_error() -> None:
    messages = fold(ToolUsed(at(1), "a", title="A", output="half"), TurnEnded(at(2), "cancelled"))
    assert said(messages) == [
        ("assistant", "-> A"),
        ("tool", "half\n[never ended]"),
        ("system", "the turn ended: cancelled"),
    ]
    assert messages[1].is_error


def test_the_end_of_the_run_closes_what_is_open() -> None:
    fed = transcript()
    fed.feed((ToolUsed(at(1), "a", title="A"), Spoke(at(2), "and")), 2)
    folded = fed.end(at(9))
    assert said(folded.messages) == [("assistant", "-> A"), ("tool", "[never ended]"), ("assistant", "and")]
    assert folded.mark.position == 9


def test_a_call_told_again_after_its_end_does_not_begin_anew() -> None:
    messages = fold(
        ToolUsed(at(1), "a", title="A"),
        ToolUsed(at(2), "a", status="completed"),
        ToolUsed(at(3), "a", status="completed"),
        ToolUsed(at(4), "a", status="completed", output="more"),
    )
    assert said(messages)[2:] == [("tool", "more")]


def test_a_long_speech_is_continued_and_nothing_of_it_is_lost() -> None:
    text = "".join(f"{number}, " for number in range(40_000))
    pieces = [
        Spoke(at(1 + index // 7), text[start : start + 999]) for index, start in enumerate(range(0, len(text), 999))
    ]
    fed = transcript()
    out = [message for piece in pieces for message in fed.feed((piece,), piece.heard.record).messages]
    out += fed.feed((TurnEnded(at(10**6), "end_turn"),), 10**6).messages
    assert "".join(each.content for each in out) == text
    assert all(len(each.content) <= TEXT_CHARACTERS for each in out)
    assert tuple(out) == transcript().feed((Spoke(at(1), text), TurnEnded(at(10**6), "end_turn")), 10**6).messages


def test_usage_is_put_on_the_last_speech_of_the_turn_and_only_what_is_new() -> None:
    first, second = TokenUsage(100, 10, cost_usd=0.5), TokenUsage(150, 30, cost_usd=0.75)
    messages = fold(
        Spoke(at(1), "one", thought=True),
        Spoke(at(2), "two"),
        UsageTold(at(3), TokenUsage(cost_usd=0.5)),
        TurnEnded(at(4), "end_turn", first),
        Spoke(at(5), "three"),
        TurnEnded(at(6), "end_turn", second),
    )
    assert [(each.token_count, each.cost_usd) for each in messages] == [(0, 0.0), (110, 0.5), (70, 0.25)]


def test_usage_without_a_speech_to_carry_it_is_told_by_the_system() -> None:
    fed = transcript(Mark(4, TokenUsage(100), TokenUsage(100)))
    used = TokenUsage(120)
    folded = fed.feed((ToolUsed(at(5), "a", title="A", status="completed"), TurnEnded(at(6), "end_turn", used)), 6)
    assert [each.token_count for each in folded.messages] == [0, 0, 20]
    assert folded.messages[2].role is MessageRole.SYSTEM
    assert folded.mark == Mark(6, used, used)


BEFORE = TokenUsage(100, 10, cost_usd=1.0)


@pytest.mark.parametrize(
    ("carried", "told", "used"),
    [
        (True, [TokenUsage(150, 30, cost_usd=1.25)], TokenUsage(50, 20, cost_usd=0.25)),
        (True, [TokenUsage(cost_usd=1.0), TokenUsage(cost_usd=1.5)], TokenUsage(cost_usd=0.5)),
        (
            True,
            [TokenUsage(90, 30, cost_usd=0.25), TokenUsage(900, 300, cost_usd=2.5)],
            TokenUsage(900, 300, cost_usd=2.5),
        ),
        (True, [TokenUsage(150, 30)], TokenUsage(50, 20)),
        (False, [TokenUsage(150, 30, cost_usd=1.25)], TokenUsage(150, 30, cost_usd=1.25)),
    ],
)
def test_what_a_session_told_before_it_was_loaded_is_not_counted_again(
    carried: bool, told: Sequence[TokenUsage], used: TokenUsage
) -> None:
    opened = Noted(at(1), "session_opened", {"session_id": "s", "carried": carried})
    updates = [opened, *(UsageTold(at(2 + n), each) for n, each in enumerate(told))]
    fed = Transcript(CONVERSATION, "step", "agent-1", before=BEFORE)
    first = fed.feed(updates, 9)
    assert fed.usage == used
    again = transcript(first.mark)
    (message,) = again.feed((TurnEnded(at(10), "end_turn"),), 10).messages
    assert again.usage == used, "a worker that goes on from the mark counts the same"
    assert (message.token_count, message.cost_usd) == (used.total_tokens, used.cost_usd or 0.0)


def test_what_is_of_use_to_a_reader_is_told_and_the_rest_is_not() -> None:
    call = ToolUsed(at(2), "a", title="rm -rf build")
    messages = fold(
        Planned(at(1), (("look", "completed"), ("write", "in_progress"), ("test", "pending"))),
        PermissionWanted(at(2), "q", call, (("1", "Yes", "allow_once"),)),
        Noted(at(3), "commands", {"names": ["x"]}),
        Noted(at(4), "error", {"text": "overloaded"}),
    )
    assert said(messages) == [
        ("system", "plan:\n- [x] look\n- [>] write\n- [ ] test"),
        ("system", "asks for permission: rm -rf build"),
        ("system", "error: overloaded"),
    ]


def test_a_call_that_is_told_with_the_question_only_is_kept_as_it_was_asked() -> None:
    call = ToolUsed(at(2), "a", kind="execute", input={"command": "make"})
    asked = PermissionWanted(at(2), "q", call, (("1", "Yes", "allow_once"),))
    told = fold(asked, TurnEnded(at(3), "end_turn"))
    assert [each.role for each in told] == [MessageRole.SYSTEM, MessageRole.ASSISTANT, MessageRole.TOOL]
    assert told[1].tool_calls == ({"id": "a", "name": "execute", "input": {"command": "make"}, "kind": "execute"},)
    assert not told[2].is_error
    assert "never ended" not in str(told[2].tool_result)
    done = fold(asked, ToolUsed(at(3), "a", status="completed", output="made"))
    assert [each.tool_result for each in done][-1] == "made"


def test_paths_in_the_worktree_are_shown_as_they_are_in_it() -> None:
    fed = Transcript(CONVERSATION, "step", "agent-0", root="/at/tree")
    diffs = [FileDiff("/at/tree/a", "x\n", "y\n"), FileDiff("/at/treehouse", "x\n", "y\n")]
    edit = ToolUsed(at(1), "a", title="Edit", status="completed", diffs=diffs)
    result = str(fed.feed((edit,), 1).messages[-1].tool_result)
    assert "+++ b/a\n" in result
    assert "+++ b//at/treehouse\n" in result


def test_a_flood_of_calls_that_never_end_is_bounded() -> None:
    fed = transcript()
    messages = fed.feed((ToolUsed(at(n), str(n), title="t") for n in range(1, 3 * OPEN_CALLS)), 3 * OPEN_CALLS).messages
    assert len(messages) == 2 * (2 * OPEN_CALLS - 1)


def test_inputs_are_bounded_and_hold_only_what_json_has() -> None:
    deep: dict[str, object] = {}
    for _ in range(900):
        deep = {"d": deep}
    huge = {"text": "x" * 10**6, "deep": deep, "nan": float("nan"), "many": list(range(10**5))}
    kept = bounded(huge)
    assert len(json.dumps(kept, allow_nan=False)) < 2 * INPUT_CHARACTERS
    assert str(kept["text"]).endswith(f"… [{10**6 - INPUT_CHARACTERS + 8 + len('text')} characters cut]")
    assert bounded({"path": "a.py", "lines": [1, {"b": None}]}) == {"path": "a.py", "lines": [1, {"b": None}]}


# -- any batch, any death -------------------------------------------------------------------------------------------

IDS = st.sampled_from("abc")
WORDS = st.sampled_from(["", "x", "word ", "y" * 30_000, "z" * 70_000])
USAGES = st.builds(
    TokenUsage, input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9), cost_usd=st.none() | st.floats(0, 4)
)
STATUSES = st.sampled_from([None, "pending", "in_progress", "completed", "failed"])


def _updates() -> st.SearchStrategy[list[Update]]:
    heard = st.just(at(0))
    call = st.builds(
        ToolUsed, heard, IDS, status=STATUSES, title=st.sampled_from([None, "T"]), output=st.none() | WORDS
    )
    one = st.one_of(
        st.builds(Prompted, heard, WORDS),
        st.builds(Spoke, heard, WORDS, thought=st.booleans(), message_id=st.sampled_from([None, "m"])),
        call,
        call,
        st.builds(UsageTold, heard, USAGES),
        st.builds(PermissionWanted, heard, st.just("q"), call, st.just(())),
        st.builds(Planned, heard, st.just((("do", "pending"),))),
        st.builds(Noted, heard, st.just("note"), st.sampled_from([{}, {"text": "m"}])),
        st.builds(TurnEnded, heard, st.sampled_from(["end_turn", "refusal"]), st.none() | USAGES),
    )
    return st.lists(one, min_size=1, max_size=25)


def _placed(updates: list[Update], gaps: list[int]) -> Iterator[Update]:
    """Puts the updates into records, several into one and records without any between."""
    record = 1
    for update, gap in zip(updates, gaps, strict=True):
        record += gap
        placed = replace(update, heard=at(record))
        yield (
            replace(placed, call=replace(placed.call, heard=at(record)))
            if isinstance(placed, PermissionWanted)
            else placed
        )


@given(st.data())
def test_any_batching_and_any_deaths_give_the_same_messages_once_each_in_one_order(data: st.DataObject) -> None:
    drawn = data.draw(_updates())
    size = len(drawn)
    gaps = data.draw(st.lists(st.sampled_from([0, 0, 1, 2]), min_size=size, max_size=size))
    updates = list(_placed(drawn, gaps))
    end = Heard(updates[-1].heard.record + 1, AT)
    whole = transcript()
    expected = [*whole.feed(updates, end.record - 1).messages]
    expected += whole.end(end).messages
    assert len({each.id for each in expected}) == len(expected)

    stored: dict[str, Message] = {}
    mark, fed, start = Mark(), transcript(), 0
    while start < size:
        stop = data.draw(st.integers(start + 1, size))
        batch, start = updates[start:stop], stop
        complete = stop == size or updates[stop].heard.record != batch[-1].heard.record
        folded = fed.feed(batch, batch[-1].heard.record if complete else batch[-1].heard.record - 1)
        if data.draw(st.booleans()):  # the worker dies before it has stored what it folded
            fed = transcript(mark)
            start = next((i for i, each in enumerate(updates) if each.heard.record > mark.position), size)
            if not data.draw(st.booleans()):
                break
            continue
        assert folded.mark.position >= mark.position
        mark = folded.mark
        _store(stored, folded.messages)
        if data.draw(st.booleans()):  # it dies after that
            fed = transcript(mark)
            start = next((i for i, each in enumerate(updates) if each.heard.record > mark.position), size)
    fed = transcript(mark)
    _store(stored, fed.feed([each for each in updates if each.heard.record > mark.position], end.record - 1).messages)
    last = fed.end(end)
    _store(stored, last.messages)
    assert list(stored.values()) == expected
    assert last.mark.position == end.record


def _store(stored: dict[str, Message], messages: Sequence[Message]) -> None:
    for message in messages:
        assert stored.setdefault(message.id, message) == message
