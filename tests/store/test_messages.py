"""Conversations on both databases: appended once, read from their heads, kept as snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.store.world import AT, World, new_worker, start

from holdfast import clock
from holdfast.domain.conversation import Conversation, Head, Message, MessageRole, SnapshotKind, TokenUsage
from holdfast.domain.history import EventType
from holdfast.domain.transcript import Mark
from holdfast.errors import ClaimLost, Corruption, IllegalState, UsageError
from holdfast.store import blobs, conversations, events, messages, snapshots, tasks
from holdfast.store.check import check
from holdfast.store.messages import BEGINNING_CHARACTERS, Source


def of_task(world: World) -> Conversation:
    return Conversation(world.plan.id, world.task.id)


def message(world: World, text: str, **fields: object) -> Message:
    plain = Message(
        id=clock.new_id(),
        plan_id=world.plan.id,
        task_id=world.task.id,
        step_id=None,
        parent_id=None,
        position=0,
        role=MessageRole.ASSISTANT,
        content=text,
        at=AT,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]  # named by the test


def append(world: World, *new: Message, of: Conversation | None = None, **given: object) -> Head:
    with world.database.transaction() as connection:
        return messages.append_all(connection, of or of_task(world), new, actor="worker:w", **given)  # type: ignore[arg-type]


def read(world: World, of: Conversation | None = None, limit: int = 1000) -> list[str]:
    with world.database.read() as connection:
        found = messages.list_(connection, of or of_task(world), limit=limit).items
    return [each.content for each in reversed(found)]


def test_messages_come_back_as_they_were_stored_with_their_place_and_sums(world: World) -> None:
    call = message(
        world,
        "",
        tool_calls=({"id": "1", "name": "edit", "input": {"a": [1, "ü"]}, "kind": "edit"},),
        thought=True,
        token_count=7,
        cost_usd=0.25,
    )
    result = message(
        world, "", role=MessageRole.TOOL, tool_name="edit", tool_input={"a": 1}, tool_result="no\x00", is_error=True
    )
    head = append(world, call, result)
    assert head == Head(result.id, 2, 7, 0.25)
    with world.database.read() as connection:
        second, first = messages.list_(connection, of_task(world)).items
        assert messages.get(connection, call.id) == first
        assert conversations.head(connection, of_task(world)) == head
    assert first == replace(call, tokens_so_far=7, cost_so_far=0.25)
    assert second == replace(
        result, parent_id=call.id, position=1, tool_result="no\ufffd", tokens_so_far=7, cost_so_far=0.25
    )
    assert check(world.database) == []


def test_what_comes_again_is_passed_over(world: World) -> None:
    one, two, three = (message(world, text) for text in ("one", "two", "three"))
    append(world, one, two)
    assert append(world, one, two, three).message_count == 3
    assert append(world, one, two, three).message_id == three.id
    assert read(world) == ["one", "two", "three"]


def test_the_mark_of_the_journal_is_stored_with_the_messages(world: World) -> None:
    source = Source(start(world, world.task).id, "agent-0")
    used = TokenUsage(3, 4, cost_usd=0.5)
    first, second = Mark(5, used, TokenUsage()), Mark(9, used, used)
    append(world, message(world, "one"), source=source, mark=first)
    append(world, source=source, mark=second)
    with world.database.read() as connection:
        assert messages.mark(connection, source) == second
        assert messages.mark(connection, Source(source.step_id, "agent-1")) == Mark()
    with pytest.raises(IllegalState):
        append(world, message(world, "late"), source=source, mark=first)
    assert read(world) == ["one"]


def test_a_worker_that_was_taken_over_stores_nothing(world: World) -> None:
    source = Source(start(world, world.task).id, "agent-0")
    worker = new_worker(world.database)
    with world.database.transaction() as connection:
        old = tasks.take_claim(connection, world.task.id, worker)
        new = tasks.take_claim(connection, world.task.id, worker)
    with pytest.raises(ClaimLost):
        append(world, message(world, "late"), source=source, mark=Mark(3), claim=old)
    with world.database.read() as connection:
        assert messages.mark(connection, source) == Mark()
    assert read(world) == []
    append(world, message(world, "mine"), source=source, mark=Mark(3), claim=new)
    assert read(world) == ["mine"]


def test_a_head_is_moved_only_from_where_it_was_seen(world: World) -> None:
    head = append(world, message(world, "one"))
    with pytest.raises(IllegalState), world.database.transaction() as connection:
        conversations.move_head(connection, of_task(world), Head(), None)
    with world.database.transaction() as connection:
        conversations.move_head(connection, of_task(world), head, None)
    append(world, message(world, "anew"))
    assert read(world) == ["anew"]


def test_forks_share_the_trunk_and_the_supervisor_has_its_own_conversation(world: World) -> None:
    trunk, left, right = (message(world, text) for text in ("trunk", "left", "right"))
    at_trunk = append(world, trunk)
    after_left = append(world, left)
    with world.database.transaction() as connection:
        conversations.move_head(connection, of_task(world), after_left, at_trunk.message_id)
    append(world, right)
    assert read(world) == ["trunk", "right"]
    with world.database.read() as connection:
        assert [each.content for each in messages.walk_back(connection, left.id, 10)] == ["left", "trunk"]
    supervisor = Conversation(world.plan.id)
    append(world, message(world, "boss", task_id=None), of=supervisor)
    assert read(world, supervisor) == ["boss"]


def test_pages_go_backwards_and_stay_put_while_messages_are_added(world: World) -> None:
    append(world, *(message(world, str(number)) for number in range(25)))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        with world.database.read() as connection:
            page = messages.list_(connection, of_task(world), limit=10, cursor=cursor)
        seen += [each.content for each in page.items]
        append(world, message(world, "more"))
        if (cursor := page.next_cursor) is None:
            break
    assert seen == [str(number) for number in reversed(range(25))]
    with pytest.raises(UsageError), world.database.read() as connection:
        messages.list_(connection, of_task(world), cursor="nonsense")


def test_a_page_costs_what_the_page_costs(sqlite_world: World) -> None:
    def work() -> int:
        """The steps of SQLite's machine for the last page."""
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        with sqlite_world.database.read() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.set_progress_handler(step, 1)
            assert len(messages.list_(connection, of_task(sqlite_world), limit=10).items) == 10
            driver.set_progress_handler(None, 0)
        return count

    append(sqlite_world, *(message(sqlite_world, str(number)) for number in range(20)))
    few = work()
    append(sqlite_world, *(message(sqlite_world, str(number)) for number in range(3000)))
    assert few > 100
    assert work() < 1.5 * few


def test_big_results_go_to_the_blobs_with_their_beginning_in_the_row(world: World, tmp_path: Path) -> None:
    text = "ü" * 20_000
    big, small = message(world, "", tool_result=text), message(world, "", tool_result="x" * 1000)
    fitting, kept = messages.keep_big_results(tmp_path / "blobs", (big, small), 1000)
    assert fitting[1] is small
    append(world, *fitting, kept=kept)
    append(world, *fitting, kept=kept)
    with world.database.read() as connection:
        stored = messages.get(connection, big.id)
        assert blobs.get(connection, stored.result_blob or "").size == 40_000
    assert stored.tool_result == text[:BEGINNING_CHARACTERS]
    assert messages.result_of(tmp_path / "blobs", stored) == text
    blobs.path_of(tmp_path / "blobs", stored.result_blob or "").unlink()
    with pytest.raises(Corruption):
        messages.result_of(tmp_path / "blobs", stored)


def test_snapshots_are_made_by_number_by_hand_and_with_checkpoints(world: World) -> None:
    append(world, *(message(world, str(number), token_count=2) for number in range(7)), snapshot_every=3)
    with world.database.transaction() as connection:
        bound = snapshots.bind(connection, of_task(world), name="T1@2", actor="worker:w")
        snapshots.add(connection, of_task(world), SnapshotKind.MANUAL, name="before", actor="ada")
        found = snapshots.list_(connection, of_task(world)).items
        told = events.list_(connection, type=EventType.CHAT).items
        assert bound == conversations.head(connection, of_task(world)).message_id
    assert [(str(each.kind), each.name, each.message_count, each.token_count) for each in found] == [
        ("manual", "before", 7, 14),
        ("checkpoint", "T1@2", 7, 14),
        ("auto", "", 6, 12),
        ("auto", "", 3, 6),
    ]
    assert [(event.subtype, event.actor) for event in told] == [("snapshot", "ada")]
    with world.database.read() as connection:
        pages = snapshots.list_(connection, of_task(world), limit=3)
        rest = snapshots.list_(connection, of_task(world), limit=3, cursor=pages.next_cursor)
        nobodys: Sequence[object] = snapshots.list_(connection, Conversation(world.plan.id)).items
    assert [each.message_count for each in rest.items] == [3]
    assert nobodys == ()
