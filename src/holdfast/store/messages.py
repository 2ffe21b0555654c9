"""Messages of conversations: immutable, each with its parent, so that every conversation is a tree.

Messages that were folded from a journal are stored together with the mark that the fold may begin again at, so that
none is lost; those that come again have the same ids and are passed over, so that none comes twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from holdfast.domain.conversation import Conversation, Head, Message, MessageRole, SnapshotKind, TokenUsage
from holdfast.domain.step import Step
from holdfast.domain.transcript import Mark
from holdfast.errors import IllegalState, UsageError
from holdfast.failpoints import failpoint
from holdfast.store import blobs, conversations, snapshots
from holdfast.store.blobs import Blob
from holdfast.store.columns import storable
from holdfast.store.paging import AnyRow, Page, limited
from holdfast.store.rows import columns_of, entity, one
from holdfast.store.tables import journals, messages

# What a row keeps of a result that has gone to the blob store.
BEGINNING_CHARACTERS = 4096
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Source:
    """The journal that messages were folded from: a step, and one of its launches."""

    step_id: str
    launch: str


def mark(connection: Connection, source: Source) -> Mark:
    """Gives the mark from which the fold of a journal goes on; at the beginning if nothing was taken in."""
    where = (journals.c.step_id == source.step_id, journals.c.launch == source.launch)
    row = connection.execute(select(journals.c.last_record, journals.c.usage).where(*where)).one_or_none()
    if row is None:
        return Mark()
    usage: dict[str, Any] = row.usage or {}
    return Mark(row.last_record, *(TokenUsage(**usage.get(part, {})) for part in _PARTS))


_PARTS = ("heard", "counted", "before")


def append_all(
    connection: Connection,
    conversation: Conversation,
    new: Sequence[Message],
    *,
    actor: str,
    source: Source | None = None,
    mark: Mark | None = None,
    kept: Iterable[Blob] = (),
    claim: int | None = None,
    snapshot_every: int = 0,
) -> Head:
    """Stores messages below the conversation's head, in their order, and gives the new head; with the journal's mark.

    Messages that are stored already are passed over. `kept` are the blobs of their big results (`keep_big_results`).
    Every `snapshot_every` messages an automatic snapshot is made (0 = none). Raises `ClaimLost` if `claim` is no
    longer the task's, `IllegalState` if the journal was taken in further by then; nothing is written then.
    """
    before = conversations.head(connection, conversation)
    placed = _placed(before, _unknown(connection, new))
    after = head_of(placed[-1]) if placed else before
    conversations.move_head(connection, conversation, before, after.message_id, claim=claim)
    for blob in kept:
        blobs.record(connection, blob)
    if placed:
        connection.execute(messages.insert(), [columns_of(message) for message in placed])
    if source is not None and mark is not None:
        _move_mark(connection, source, mark)
    for message in placed:
        if snapshot_every and (message.position + 1) % snapshot_every == 0:
            snapshots.add(connection, conversation, SnapshotKind.AUTO, actor=actor, of=head_of(message))
    return after


def head_of(message: Message) -> Head:
    """Gives the head of a conversation that ends at a stored message."""
    return Head(message.id, message.position + 1, message.tokens_so_far, message.cost_so_far)


_KNOWN = select(messages.c.id).where(messages.c.id.in_(bindparam("ids", expanding=True)))


def _unknown(connection: Connection, new: Sequence[Message]) -> list[Message]:
    ids = list(dict.fromkeys(message.id for message in new))
    known: set[str] = set()
    for start in range(0, len(ids), _AT_ONCE):
        known.update(connection.execute(_KNOWN, {"ids": ids[start : start + _AT_ONCE]}).scalars())
    return [message for message in new if message.id not in known]


def _placed(head: Head, new: Iterable[Message]) -> list[Message]:
    """Gives the messages one below the other, with the sums along their path."""
    placed: list[Message] = []
    for message in new:
        standing = replace(
            message,
            parent_id=head.message_id,
            position=head.message_count,
            tokens_so_far=head.token_count + message.token_count,
            cost_so_far=head.cost_usd + message.cost_usd,
        )
        placed.append(standing)
        head = head_of(standing)
    return placed


def _move_mark(connection: Connection, source: Source, mark: Mark) -> None:
    usage = {part: asdict(getattr(mark, part)) for part in _PARTS}
    values = {"last_record": mark.position, "usage": usage}
    here = (journals.c.step_id == source.step_id, journals.c.launch == source.launch)
    forward = journals.c.last_record <= mark.position
    if connection.execute(update(journals).where(*here, forward).values(**values)).rowcount == 1:
        return
    if connection.execute(select(journals.c.last_record).where(*here)).one_or_none() is not None:
        raise IllegalState(f"the journal {source.launch} was taken in further meanwhile", code="changed_meanwhile")
    connection.execute(journals.insert().values(step_id=source.step_id, launch=source.launch, **values))


def keep_big_results(
    folder: Path, new: Sequence[Message], limit_bytes: int
) -> tuple[tuple[Message, ...], tuple[Blob, ...]]:
    """Puts the results above the limit into the blob store, durable on return; gives the messages with beginnings.

    To be called before the transaction that stores them: a kill in between leaves blobs that nothing names yet.
    """
    kept: list[Blob] = []
    fitting: list[Message] = []
    for message in new:
        content = storable(message.tool_result or "").encode()
        if len(content) <= limit_bytes:
            fitting.append(message)
            continue
        kept.append(blobs.write(folder, content))
        beginning = (message.tool_result or "")[:BEGINNING_CHARACTERS]
        fitting.append(replace(message, tool_result=beginning, result_blob=kept[-1].digest))
    failpoint("store.messages.blobs_kept")
    return tuple(fitting), tuple(kept)


def result_of(folder: Path, message: Message) -> str:
    """Gives the whole result of a tool call, out of the blob store if it lies there; raises `Corruption`."""
    if message.result_blob is None:
        return message.tool_result or ""
    return blobs.read(folder, message.result_blob).decode()


def get(connection: Connection, message_id: str) -> Message:
    """Gives one message; raises `NotFound`."""
    return _entity(one(connection, select(messages).where(messages.c.id == message_id), "such message"))


def list_(
    connection: Connection, conversation: Conversation, *, limit: int = 100, cursor: str | None = None
) -> Page[Message]:
    """Gives a page of a conversation from its head backwards, or from the message `cursor`: newest first.

    It costs what the page costs, whatever the length of the conversation; pages stay put while messages are added.
    """
    start = cursor or conversations.head(connection, conversation).message_id
    if start is None:
        return Page((), None)
    found = walk_back(connection, start, limit)
    if not found:
        raise UsageError(f"'{start[:40]}' is not a cursor", hint="use next_cursor of the page before")
    return Page(found, found[-1].parent_id)


def last_words(connection: Connection, step: Step, limit: int = 1) -> tuple[str, ...]:
    """Gives what the agent of a step said last, the newest first; nothing where none spoke."""
    said = (
        messages.c.task_id == step.task_id,
        messages.c.step_id == step.id,
        messages.c.role == MessageRole.ASSISTANT,
        ~messages.c.thought,
        messages.c.content != "",
    )
    query = select(messages.c.content).where(*said).order_by(messages.c.position.desc()).limit(limit)
    return tuple(connection.execute(query).scalars())


def is_last_of_step(connection: Connection, message: Message) -> bool:
    """Tells whether a step said nothing after that message."""
    later = select(messages.c.id).where(
        messages.c.task_id == message.task_id,
        messages.c.step_id == message.step_id,
        messages.c.position > message.position,
    )
    return connection.execute(later.limit(1)).first() is None


def walk_back(connection: Connection, message_id: str, limit: int) -> tuple[Message, ...]:
    """Gives the last messages of the conversation that ends at `message_id`, newest first; none if it is not there."""
    columns = (messages.c.id, messages.c.parent_id, messages.c.position)
    path = select(*columns, messages.c.position.label("end")).where(messages.c.id == message_id).cte(recursive=True)
    # The bound is part of the walk: a LIMIT outside would let it go on to the first message.
    path = path.union_all(
        select(*columns, path.c.end)
        .join(path, messages.c.id == path.c.parent_id)
        .where(messages.c.position > path.c.end - limited(limit))
    )
    query = select(messages).join(path, messages.c.id == path.c.id).order_by(messages.c.position.desc())
    return tuple(_entity(row) for row in connection.execute(query))


def path(connection: Connection, message_id: str | None) -> Iterator[Message]:
    """Gives the conversation that ends at `message_id`, newest message first, read as far as it is asked for."""
    while message_id is not None:
        found = walk_back(connection, message_id, _AT_ONCE)
        yield from found
        message_id = found[-1].parent_id if found else None


def _entity(row: AnyRow) -> Message:
    return entity(Message, row, tool_calls=tuple(row.tool_calls))
