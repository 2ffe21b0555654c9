"""Conversations: trees of messages, and what an agent's turn tells while it runs.

A message is immutable and knows its parent; a conversation is its head, the message it ends at. An agent's session is
heard as a stream of updates (`Update`), each made of one record of a run's journal. `transcript` folds them into
messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class MessageRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class SnapshotKind(StrEnum):
    """Why a conversation snapshot was made: every N messages, by a person, with a checkpoint."""

    AUTO = "auto"
    MANUAL = "manual"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Names the conversation of a task, or of the plan's supervisor (`task_id` None)."""

    plan_id: str
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a task's conversation, or of the plan's supervisor (`task_id` None); `position` is its depth.

    A message of the role assistant says something, thinks aloud (`thought`) or calls a tool; the result of a call is a
    message of the role tool right after it. `result_blob` is the digest of a result too big for the row, of which
    `tool_result` then holds the beginning. `token_count` 0 = not told. `tokens_so_far` and `cost_so_far` are the sums
    along its path. Where a message stands (parent, position, sums) is settled when it is stored.
    """

    id: str
    plan_id: str
    task_id: str | None
    step_id: str | None
    parent_id: str | None
    position: int
    role: MessageRole
    content: str
    at: datetime
    thought: bool = False
    tool_calls: tuple[Mapping[str, object], ...] = ()
    tool_name: str | None = None
    tool_input: Mapping[str, object] | None = None
    tool_result: str | None = None
    result_blob: str | None = None
    is_error: bool = False
    token_count: int = 0
    cost_usd: float = 0.0
    tokens_so_far: int = 0
    cost_so_far: float = 0.0


@dataclass(frozen=True, slots=True)
class Head:
    """The message that a conversation ends at (None: nothing was said yet), with the sums along its path."""

    message_id: str | None = None
    message_count: int = 0
    token_count: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A head that is kept: what a conversation was at one moment, of the same size however long it is."""

    id: str
    plan_id: str
    task_id: str | None
    message_id: str | None
    kind: SnapshotKind
    name: str
    message_count: int
    token_count: int
    cost_usd: float
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a conversation is cut: `kept` is its last message from then on (None: it begins anew).

    `left` counts the messages that are left behind. `moved` is the tool call because of which the cut was moved back.
    """

    kept: Message | None
    left: int
    moved: Message | None = None


def cut(newest_first: Iterable[Message], may_stay: Callable[[Message, int], bool]) -> Cut | None:
    """Gives the cut at the newest message that may stay, by itself and the number of those after it; None if none may.

    A tool call is never cut from its result: where that would be so, neither half stays.
    """
    left = 0
    found = False
    moved: Message | None = None
    after: Message | None = None
    for message in newest_first:
        found = found or may_stay(message, left)
        if found and (after is None or after.role is not MessageRole.TOOL):
            return Cut(message, left, moved)
        moved = message if found else None
        after = message
        left += 1
    return Cut(None, left, moved) if found else None


SAID_CHARACTERS = 120


def told_of(new: Sequence[Message]) -> dict[str, object]:
    """Gives what the event of new messages tells: how many, the last one, and in a line what was said or done."""
    lines = [line for message in new if (line := _line(message))]
    return {"count": len(new), "last": new[-1].id, "said": lines[-1] if lines else ""}


def _line(message: Message) -> str:
    if message.thought or message.role is MessageRole.USER:
        return ""
    called = ", ".join(str(call.get("name", "")) for call in message.tool_calls)
    return first_line(f"⚙ {called}" if called else message.content)


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:SAID_CHARACTERS]


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of a session so far, and its cost where the agent tells it (None: it does not)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    thought_tokens: int = 0
    cost_usd: float | None = None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.cached_tokens + self.thought_tokens

    def then(self, later: TokenUsage) -> TokenUsage:
        """Gives what is known once `later` was told too: an agent may tell its tokens here and its cost there."""
        return TokenUsage(
            later.input_tokens or self.input_tokens,
            later.output_tokens or self.output_tokens,
            later.cached_tokens or self.cached_tokens,
            later.thought_tokens or self.thought_tokens,
            self.cost_usd if later.cost_usd is None else later.cost_usd,
        )

    def includes(self, before: TokenUsage) -> TokenUsage:
        """Gives the part of `before`, told by the same session in an earlier process, that these figures go on from.

        Figures are of the whole session, by ACP; an agent that begins anew with each process tells less than before.
        """
        untold = not self.total_tokens
        goes_on = untold or all(now >= then for now, then in zip(self._tokens, before._tokens, strict=True))
        cost_goes_on = self.cost_usd is None or self.cost_usd >= (before.cost_usd or 0.0)
        tokens = before._tokens if goes_on else (0, 0, 0, 0)
        return TokenUsage(*tokens, cost_usd=before.cost_usd if cost_goes_on else None)

    def without(self, before: TokenUsage) -> TokenUsage:
        """Gives what is left of these figures without `before`; what was not told stays untold."""
        tokens = tuple(max(0, now - then) for now, then in zip(self._tokens, before._tokens, strict=True))
        cost = None if self.cost_usd is None else max(0.0, self.cost_usd - (before.cost_usd or 0.0))
        return TokenUsage(*tokens, cost_usd=cost)

    @property
    def _tokens(self) -> tuple[int, int, int, int]:
        return self.input_tokens, self.output_tokens, self.cached_tokens, self.thought_tokens

    def plus(self, more: TokenUsage) -> TokenUsage:
        """Gives the sum of both, where an agent tells each part by itself."""
        costs = [each.cost_usd for each in (self, more) if each.cost_usd is not None]
        return TokenUsage(
            self.input_tokens + more.input_tokens,
            self.output_tokens + more.output_tokens,
            self.cached_tokens + more.cached_tokens,
            self.thought_tokens + more.thought_tokens,
            sum(costs) if costs else None,
        )


# -- what a turn tells -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heard:
    """Where an update comes from: the number of its record in the run's journal (from 1), and its time."""

    record: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Prompted:
    """The prompt that began a turn, as the agent got it."""

    heard: Heard
    text: str


@dataclass(frozen=True, slots=True)
class Spoke:
    """A piece of what the agent says; pieces that follow each other are one message."""

    heard: Heard
    text: str
    thought: bool = False
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One file as a tool call says it changed it; `old` None = new file."""

    path: str
    old: str | None
    new: str


@dataclass(frozen=True, slots=True)
class ToolUsed:
    """A tool call as it stands now: told first when it begins, last when it is `completed` or `failed`.

    None means: as told before. `status` is ACP's: pending, in_progress, completed, failed.
    """

    heard: Heard
    id: str
    status: str | None = None
    title: str | None = None
    kind: str | None = None
    input: Mapping[str, Any] | None = None
    output: str | None = None
    diffs: Sequence[FileDiff] | None = None
    paths: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """The agent's own list of what it is about to do: (content, status) per entry; it replaces the one before."""

    heard: Heard
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class UsageTold:
    """What the session has used so far, as far as the agent tells."""

    heard: Heard
    usage: TokenUsage
    context_size: int | None = None
    context_used: int | None = None


@dataclass(frozen=True, slots=True)
class PermissionWanted:
    """The agent asks before it does something. `request` names the question in its run; `options` are (id, name, kind)
    with ACP's kinds allow_once, allow_always, reject_once, reject_always."""

    heard: Heard
    request: str
    call: ToolUsed
    options: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Noted:
    """Anything else, kept as it is: a mode, a list of commands, an error that the agent tells, an unknown update."""

    heard: Heard
    what: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The turn is over; `reason` is ACP's stop reason: end_turn, max_tokens, max_turn_requests, refusal, cancelled."""

    heard: Heard
    reason: str
    usage: TokenUsage | None = None


Update = Prompted | Spoke | ToolUsed | Planned | UsageTold | PermissionWanted | Noted | TurnEnded
