"""A conversation is cut where it was asked for, and never between a tool call and its result."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as some
from tests.unit.builders import NOW

from holdfast.domain.conversation import Message, MessageRole, cut


def talk(shape: str) -> list[Message]:
    """Gives a conversation, oldest message first: u(ser), a(ssistant), c(all), r(esult)."""
    roles = {"u": MessageRole.USER, "r": MessageRole.TOOL}
    return [
        Message(
            id=f"m{place}",
            plan_id="plan",
            task_id="task",
            step_id="step",
            parent_id=f"m{place - 1}" if place else None,
            position=place,
            role=roles.get(kind, MessageRole.ASSISTANT),
            content=kind,
            at=NOW + timedelta(seconds=place),
            tool_calls=({"id": "1", "name": "x"},) if kind == "c" else (),
        )
        for place, kind in enumerate(shape)
    ]


def cut_at(messages: Sequence[Message], place: int) -> tuple[int, int, int | None] | None:
    """Gives the place of the last message that stays (-1: none), how many are left behind, the call that moved it."""
    made = cut(reversed(messages), lambda message, _: message.position == place)
    if made is None:
        return None
    return (made.kept.position if made.kept else -1, made.left, made.moved.position if made.moved else None)


def test_a_cut_is_where_it_was_asked_for() -> None:
    messages = talk("uacra")
    assert [cut_at(messages, place) for place in (4, 3, 1, 0)] == [
        (4, 0, None),
        (3, 1, None),
        (1, 3, None),
        (0, 4, None),
    ]
    assert cut_at(messages, 9) is None


def test_a_call_goes_with_its_results() -> None:
    assert cut_at(talk("uacra"), 2) == (1, 3, 2)
    assert cut_at(talk("uacrra"), 3) == (1, 4, 2), "of two results neither is left alone"
    assert cut_at(talk("ucrcra"), 3) == (2, 3, 3), "the call before it is whole"
    assert cut_at(talk("cra"), 0) == (-1, 3, 0)
    assert cut_at(talk("uac"), 2) == (2, 0, None), "a call without a result is no half"


# A conversation begins with what somebody says, never with a result.
TALKS = some.just("") | some.text("uacr", max_size=30).map("u".__add__)


@given(TALKS, some.integers(0, 30))
def test_what_stays_never_ends_in_the_middle_of_a_call(shape: str, place: int) -> None:
    messages = talk(shape)
    made = cut(reversed(messages), lambda message, _: message.position <= place)
    if made is None:
        assert not messages
        return
    kept = made.kept.position + 1 if made.kept else 0
    assert kept + made.left == len(messages)
    assert kept <= place + 1
    assert not (messages[kept:] and messages[kept].role is MessageRole.TOOL), "a result is left without its call"
    assert (made.moved is None) is (kept == min(place + 1, len(messages)))
