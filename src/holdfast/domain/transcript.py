"""From what an agent's turn tells to the messages of its conversation: a fold that can be begun again anywhere.

What belongs to a message is decided by the updates alone, never by how they arrive:

- Pieces of speech that follow each other (same kind, same `message_id`) are one message, cut at 64 Ki characters.
- A tool call becomes two messages when it has ended: the call (assistant) and right after it its result (tool).
- The end of a turn closes all that is open. What the turn used goes to its last piece of speech, else to a system
  message; no number is made up.

A fold begun again must give the same messages with the same ids. So an id is made of the place where the message began
(step, launch, journal record, number in that record), and `Mark.position` only comes to a record at whose end nothing
was open: from there nothing need be remembered but the usage, which the mark holds.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, assert_never, cast

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
from holdfast.domain.textdiff import unified

TEXT_CHARACTERS = 64 << 10
INPUT_CHARACTERS = 32 << 10
INPUT_DEPTH = 30
# A flood of calls that never end is closed from its oldest on.
OPEN_CALLS = 256
NOTHING_USED = TokenUsage()

_NAMESPACE = uuid.UUID("6f1c3f0e-2f51-5b0e-9b0a-6b3e5d1c7a42")
_ENDED = ("completed", "failed")
_PLAN_MARKS = {"completed": "x", "in_progress": ">"}


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a fold may begin again: the journal record all of whose messages are out, and the usage heard by then.

    Of it `before` is of the session's earlier launches, and messages of this one carry `counted`.
    """

    position: int = 0
    heard: TokenUsage = NOTHING_USED
    counted: TokenUsage = NOTHING_USED
    before: TokenUsage = NOTHING_USED


@dataclass(frozen=True, slots=True)
class Folded:
    """The messages that were finished, in their order, and the mark that may be stored together with them."""

    messages: tuple[Message, ...]
    mark: Mark


@dataclass(slots=True)
class _Speech:
    """A message that is being spoken; `parts` of it are out."""

    origin: tuple[int, int]
    at: datetime
    thought: bool
    message_id: str | None
    role: MessageRole = MessageRole.ASSISTANT
    pieces: list[str] = field(default_factory=list[str])
    size: int = 0
    parts: int = 0


@dataclass(slots=True)
class _Call:
    """A tool call that has not ended, as it was told so far."""

    origin: tuple[int, int]
    at: datetime
    id: str
    title: str = ""
    kind: str = "other"
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    output: str = ""
    diffs: Sequence[FileDiff] = ()
    status: str = "pending"
    asked_only: bool = False

    def hear(self, told: ToolUsed) -> None:
        self.title = told.title or self.title
        self.kind = told.kind or self.kind
        self.input = self.input if told.input is None else told.input
        self.output = self.output if told.output is None else told.output
        self.diffs = self.diffs if told.diffs is None else told.diffs
        self.status = told.status or self.status


class Transcript:
    """Folds the updates of one launch into the messages of a conversation; holds what is not finished, no more."""

    def __init__(
        self,
        conversation: Conversation,
        step_id: str,
        launch: str,
        mark: Mark | None = None,
        *,
        root: str = "",
        before: TokenUsage = NOTHING_USED,
    ) -> None:
        """Begins at `mark`: the next update is the first one of the record after its position.

        Paths below `root`, the agent's worktree, are shown as they are in it. `before` is what the session that this
        launch wants to load had told in earlier ones.
        """
        self._conversation = conversation
        self._root = f"{root.rstrip('/')}/" if root else ""
        self._step_id = step_id
        self._launch = launch
        self._mark = mark or Mark()
        self._heard, self._counted = self._mark.heard, self._mark.counted
        self._wanted_before, self._before = before, self._mark.before
        self._record, self._index = self._mark.position, 0
        self._speech: _Speech | None = None
        self._calls: dict[str, _Call] = {}
        self._finished: list[Message] = []

    @property
    def usage(self) -> TokenUsage:
        """What the session has used in this launch, as far as it was told."""
        return self._heard.without(self._before)

    @property
    def told(self) -> TokenUsage:
        """The last that the session told of what it used, its earlier launches included."""
        return self._heard if self._heard != NOTHING_USED else self._wanted_before

    def feed(self, updates: Iterable[Update], heard_to: int) -> Folded:
        """Takes the next updates and gives what they finished.

        All updates of the records up to `heard_to` have been given by then; the rest of a later one may be to come.
        """
        for update in updates:
            record = update.heard.record
            if record != self._record:
                self._rest(record - 1)
                self._record, self._index = record, 0
            self._index += 1
            self._take(update)
        if heard_to >= self._record:
            self._rest(heard_to)
        finished, self._finished = tuple(self._finished), []
        return Folded(finished, self._mark)

    def end(self, heard: Heard) -> Folded:
        """Closes what is open because the run is over; `heard` is the record that says so."""
        return self.feed((TurnEnded(heard, ""),), heard.record)

    def _rest(self, record: int) -> None:
        """Lets a new fold begin after that record, if nothing is open there."""
        if self._speech is None and not self._calls and record >= self._mark.position:
            self._mark = Mark(record, self._heard, self._counted, self._before)

    def _take(self, update: Update) -> None:
        match update:
            case Prompted():
                self._close_turn(update.heard, "")
                self._speech = _Speech(self._origin, update.heard.at, False, None, MessageRole.USER)
                self._speak(update.text)
                self._close_speech()
            case Spoke():
                self._hear_speech(update)
            case ToolUsed():
                self._hear_call(update)
            case Planned():
                marked = (f"- [{_PLAN_MARKS.get(status, ' ')}] {content}" for content, status in update.entries)
                self._tell(update.heard.at, "\n".join(("plan:", *marked)))
            case UsageTold():
                self._hear_usage(update.usage)
            case PermissionWanted():
                self._hear_question(update)
            case Noted():
                if update.what == "session_opened" and update.data.get("carried"):
                    self._before = self._heard.includes(self._wanted_before)
                if isinstance(text := update.data.get("text"), str):
                    self._tell(update.heard.at, f"{update.what}: {text}", is_error=update.what == "error")
            case TurnEnded():
                if update.usage is not None:
                    self._hear_usage(update.usage)
                self._close_turn(update.heard, update.reason)
            case _:
                assert_never(update)

    # -- speech ------------------------------------------------------------------------------------------------------

    def _hear_speech(self, told: Spoke) -> None:
        if not told.text:
            return
        open_one = self._speech
        if open_one is None or (open_one.thought, open_one.message_id) != (told.thought, told.message_id):
            self._close_speech()
            self._speech = _Speech(self._origin, told.heard.at, told.thought, told.message_id)
        self._speak(told.text)

    def _speak(self, text: str) -> None:
        speech = self._speech
        assert speech is not None
        speech.pieces.append(text)
        speech.size += len(text)
        if speech.size <= TEXT_CHARACTERS:
            return
        text = "".join(speech.pieces)
        # The rest stays open and is never empty: the message that ends the speech is still to come.
        last = (len(text) - 1) // TEXT_CHARACTERS * TEXT_CHARACTERS
        for start in range(0, last, TEXT_CHARACTERS):
            self._emit_speech(speech, text[start : start + TEXT_CHARACTERS])
        speech.pieces, speech.size = [text[last:]], len(text) - last

    def _close_speech(self, used: TokenUsage | None = None) -> None:
        if self._speech is None:
            return
        speech, self._speech = self._speech, None
        if speech.pieces:
            self._emit_speech(speech, "".join(speech.pieces), used)

    def _emit_speech(self, speech: _Speech, text: str, used: TokenUsage | None = None) -> None:
        part = f"{speech.parts}"
        speech.parts += 1
        self._emit(speech.origin, part, speech.role, speech.at, content=text, thought=speech.thought, used=used)

    # -- tool calls --------------------------------------------------------------------------------------------------

    def _hear_call(self, told: ToolUsed) -> None:
        call = self._calls.get(told.id)
        if call is None:
            if told.title is None and told.status not in ("pending", "in_progress"):
                self._hear_late(told)
                return
            call = self._open_call(told)
        call.hear(told)
        call.asked_only = False
        if call.status in _ENDED:
            self._close_speech()
            self._close_call(call, told.heard.at)

    def _hear_question(self, asked: PermissionWanted) -> None:
        """Opens the call that is asked about: some agents tell what it is nowhere else."""
        call = self._calls.get(asked.call.id)
        if call is None:
            call = self._open_call(asked.call)
            call.asked_only = True
        call.hear(asked.call)
        self._tell(asked.heard.at, f"asks for permission: {(call.title or call.kind).removeprefix(self._root)}")

    def _open_call(self, told: ToolUsed) -> _Call:
        self._close_speech()
        if len(self._calls) >= OPEN_CALLS:
            self._close_call(next(iter(self._calls.values())), told.heard.at)
        call = self._calls[told.id] = _Call(self._origin, told.heard.at, told.id)
        return call

    def _hear_late(self, told: ToolUsed) -> None:
        """Keeps what is told of a call that is not open, as agents do of one that has ended."""
        result = result_text(told.output or "", self._shown(told.diffs or ()))
        if result:
            self._close_speech()
            failed = told.status == "failed"
            name = told.kind or "tool"
            self._emit(self._origin, "late", MessageRole.TOOL, told.heard.at, name=name, result=result, is_error=failed)

    def _close_call(self, call: _Call, at: datetime) -> None:
        """Gives the two messages of a call, which is not open any more."""
        del self._calls[call.id]
        name, given = call.title or call.kind, bounded(call.input)
        result = result_text(call.output, self._shown(call.diffs))
        if call.asked_only:
            result = f"{result}\n[it was asked for; the agent told nothing more of it]".lstrip()
        elif call.status not in _ENDED:
            result = f"{result}\n[never ended]".lstrip()
        asked = {"id": call.id, "name": name, "input": given, "kind": call.kind}
        self._emit(call.origin, "call", MessageRole.ASSISTANT, call.at, calls=(asked,))
        failed = call.status != "completed" and not call.asked_only
        self._emit(call.origin, "result", MessageRole.TOOL, at, name=name, given=given, result=result, is_error=failed)

    def _shown(self, diffs: Iterable[FileDiff]) -> Iterable[FileDiff]:
        return (replace(diff, path=diff.path.removeprefix(self._root)) for diff in diffs)

    # -- turns -------------------------------------------------------------------------------------------------------

    def _close_turn(self, heard: Heard, reason: str) -> None:
        for call in list(self._calls.values()):
            self._close_call(call, heard.at)
        used = self._newly_used()
        spoken = self._speech is not None
        self._close_speech(used)
        untold = used is not None and not spoken
        if untold or reason not in ("", "end_turn"):
            told = "the turn ended" if reason in ("", "end_turn") else f"the turn ended: {reason.replace('_', ' ')}"
            self._tell(heard.at, told, used=used if untold else None)

    def _hear_usage(self, told: TokenUsage) -> None:
        self._heard = self._heard.then(told)
        self._before = self._heard.includes(self._before)

    def _newly_used(self) -> TokenUsage | None:
        """Gives what was used and is on no message yet, None if that is nothing."""
        now, before = self.usage, self._counted
        self._counted = now
        tokens = now.total_tokens - before.total_tokens
        cost = (now.cost_usd or 0.0) - (before.cost_usd or 0.0)
        # A session that counts from nothing again has used what it says.
        tokens, cost = (tokens if tokens >= 0 else now.total_tokens), (cost if cost >= 0 else now.cost_usd or 0.0)
        return TokenUsage(output_tokens=tokens, cost_usd=cost) if tokens or cost else None

    # -- messages ----------------------------------------------------------------------------------------------------

    @property
    def _origin(self) -> tuple[int, int]:
        return self._record, self._index

    def _tell(self, at: datetime, text: str, *, is_error: bool = False, used: TokenUsage | None = None) -> None:
        self._close_speech()
        text = text[:TEXT_CHARACTERS]
        self._emit(self._origin, "told", MessageRole.SYSTEM, at, content=text, is_error=is_error, used=used)

    def _emit(
        self,
        origin: tuple[int, int],
        part: str,
        role: MessageRole,
        at: datetime,
        *,
        content: str = "",
        thought: bool = False,
        calls: tuple[Mapping[str, object], ...] = (),
        name: str | None = None,
        given: Mapping[str, object] | None = None,
        result: str | None = None,
        is_error: bool = False,
        used: TokenUsage | None = None,
    ) -> None:
        place = f"{self._step_id}/{self._launch}/{origin[0]}.{origin[1]}/{part}"
        self._finished.append(
            Message(
                id=str(uuid.uuid5(_NAMESPACE, place)),
                plan_id=self._conversation.plan_id,
                task_id=self._conversation.task_id,
                step_id=self._step_id,
                parent_id=None,
                position=0,
                role=role,
                content=content,
                at=at,
                thought=thought,
                tool_calls=calls,
                tool_name=name,
                tool_input=given,
                tool_result=result,
                is_error=is_error,
                token_count=used.total_tokens if used else 0,
                cost_usd=(used.cost_usd or 0.0) if used else 0.0,
            )
        )


def result_text(output: str, diffs: Iterable[FileDiff]) -> str:
    """Gives the result of a tool call as one text: what it said, then what it changed as a unified diff."""
    changed = "".join(unified(diff.path, diff.old, diff.new) for diff in diffs)
    return "\n".join(part for part in (output.rstrip("\n"), changed.rstrip("\n")) if part)


def bounded(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Gives the input of a tool call cut to some 32 Ki characters, without what no database keeps as JSON."""
    room = INPUT_CHARACTERS

    def left(characters: int) -> bool:
        nonlocal room
        room -= characters
        return room > 0

    def cut(item: Any, depth: int) -> Any:
        match item:
            case str():
                kept = item[: max(0, room)]
                left(len(kept))
                return kept if len(kept) == len(item) else f"{kept}… [{len(item) - len(kept)} characters cut]"
            case float() if not math.isfinite(item):
                return str(item)
            case Mapping() | list() | tuple() if depth == INPUT_DEPTH:
                return "…"
            case Mapping():
                entries = cast("Mapping[str, Any]", item)
                return {cut(name, depth): cut(each, depth + 1) for name, each in entries.items() if left(8)}
            case list() | tuple():
                return [cut(each, depth + 1) for each in cast("Sequence[Any]", item) if left(8)]
            case _:
                return item

    return cut(value, 0)
