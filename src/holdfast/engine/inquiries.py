"""What a plan's supervisor is asked: each inquiry is an operation, its question and its answer are messages.

The question is stored with the operation, before anybody is asked; the end of the operation with the last of the
answer. So a turn that was cut off is one open operation, and whoever asks next goes on with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from holdfast import clock
from holdfast.domain.budget import Budget, Usage, reached
from holdfast.domain.conversation import Conversation, Message, MessageRole, TokenUsage, first_line, told_of
from holdfast.domain.history import EventType
from holdfast.domain.plan import Plan
from holdfast.domain.transitions import PlanStatus
from holdfast.engine.parts import Parts
from holdfast.errors import IllegalState
from holdfast.store import (
    Blob,
    Connection,
    Operation,
    OperationStatus,
    conversations,
    events,
    iterations,
    messages,
    operations,
    steps,
)

KIND = "inquiry"
# Who does what a plan's supervisor does by itself.
SUPERVISOR = "supervisor"
_MESSAGES = uuid.UUID("4d0a3f5e-9a56-5c1b-8a0c-6b8f1e2d7c90")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, of whom: `prompt` is what is told, `question` what the conversation shows of it.

    `author` is "agent:NAME" or the name of a model. With a `schema` the answer should be one JSON object of it.
    """

    question: str
    prompt: str
    author: str
    schema: Mapping[str, Any] | None = None

    @property
    def agent(self) -> str:
        """The name of the agent, empty for a model."""
        kind, _, name = self.author.partition(":")
        return name if kind == "agent" else ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an inquiry has come, and in the end what came of it.

    `launch` counts the agent's processes from 0, `deaths` those that died in mid-turn. `opened` is the session of the
    last of them, `session` the last one that was told the question. `head` is the message that the answer ends at:
    while the conversation ends there, that session knows all of it. `used` is what it has used up to now, `before` what
    the launches before the present one have; `told` is what the session had told by the end of those.
    """

    launch: int = 0
    deaths: int = 0
    opened: str = ""
    session: str = ""
    head: str = ""
    used: TokenUsage = field(default_factory=TokenUsage)
    before: TokenUsage = field(default_factory=TokenUsage)
    told: TokenUsage = field(default_factory=TokenUsage)
    answer: str = ""
    error: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One thing that the supervisor of a plan is asked.

    `earlier` is the session to go on in, where one knows all that was said, and `told` what that had told by then that
    it used; `sandbox` is where an agent runs.
    """

    id: str
    plan_id: str
    actor: str
    asked: Asked
    sandbox: str
    earlier: str
    told: TokenUsage
    status: OperationStatus
    progress: Progress

    @property
    def open(self) -> bool:
        return self.status is OperationStatus.OPEN

    @property
    def question_id(self) -> str:
        return message_id(self.id, "question")


def is_engines(actor: str) -> bool:
    """Tells whether a worker asked by itself, and no person."""
    return actor.startswith("worker:")


def conversation_of(plan_id: str) -> Conversation:
    return Conversation(plan_id, None)


def message_id(inquiry_id: str, part: str) -> str:
    return str(uuid.uuid5(_MESSAGES, f"{inquiry_id}/{part}"))


def begin(connection: Connection, parts: Parts, plan: Plan, inquiry_id: str, asked: Asked, sandbox: str) -> Inquiry:
    """Gives the inquiry of that id, stored now with its question if it is not there; the caller holds the plan's lock.

    `sandbox` is where an agent is to run, the same whoever goes on with it.
    """
    known = [each for each in of_plan(connection, plan.id) if each.id == inquiry_id]
    if known:
        return known[0]
    before = _session_to_load(connection, plan.id, asked)
    intent = {"asked": asdict(asked), "sandbox": sandbox, "earlier": before.session, "told": asdict(before.told)}
    question = spoken(plan.id, message_id(inquiry_id, "question"), MessageRole.USER, asked.question)
    told = {"inquiry": inquiry_id, "author": asked.author, "said": first_line(asked.question)}
    append(connection, parts, plan, (question,), subtype="asked", data=told)
    made = operations.begin(connection, id=inquiry_id, kind=KIND, actor=parts.actor, intent=intent, plan_id=plan.id)
    return _inquiry(made)


def _session_to_load(connection: Connection, plan_id: str, asked: Asked) -> Progress:
    """Gives how far the agent's own session came that knows the whole conversation; nowhere if none does."""
    before = [each for each in of_plan(connection, plan_id) if not each.open]
    head = conversations.head(connection, conversation_of(plan_id)).message_id
    if not asked.agent or not before or before[-1].asked.author != asked.author:
        return Progress()
    return before[-1].progress if before[-1].progress.head == head else Progress()


def of_plan(connection: Connection, plan_id: str) -> tuple[Inquiry, ...]:
    """Gives what a plan's supervisor was asked, oldest first."""
    return tuple(_inquiry(each) for each in operations.of_kind(connection, plan_id, KIND))


def usage_of_plan(connection: Connection, plan_id: str) -> Usage:
    """Gives what a plan has used up to now: its steps, and what answers, drafts and reviews of it tell."""
    used = steps.usage(connection, plan_id=plan_id, now=clock.now())
    for each in answers_used(connection, plan_id):
        used += Usage(tokens=each.total_tokens, cost_usd=each.cost_usd or 0.0)
    return used


def answers_used(connection: Connection, plan_id: str) -> tuple[TokenUsage, ...]:
    """Gives what each answer of a plan's supervisor used, and each draft and review of it, as far as it was told."""
    answers = (each.progress.used for each in of_plan(connection, plan_id))
    # Those that the supervisor itself keeps were answers of his.
    drafts = iterations.used(connection, plan_id, but_by=SUPERVISOR)
    return (*answers, *(TokenUsage(**cast("dict[str, Any]", each)) for each in drafts))


def spent(connection: Connection, plan: Plan) -> str:
    """Says that a plan's budget is used up, and how to go on; empty while it is not, or the plan is over."""
    if plan.budget == Budget() or plan.status in (PlanStatus.COMPLETED, PlanStatus.CANCELLED):
        return ""
    limit = reached(plan.budget, usage_of_plan(connection, plan.id))
    return f"the plan's budget is used up ({limit}); more: holdfast plan budget P{plan.number}" if limit else ""


def note(connection: Connection, inquiry: Inquiry, **known: Any) -> Inquiry:
    """Keeps how far an inquiry has come."""
    progress = replace(inquiry.progress, **known)
    return _inquiry(operations.advance(connection, inquiry.id, asdict(progress)))


def finish(connection: Connection, parts: Parts, plan: Plan, inquiry: Inquiry, **known: Any) -> Inquiry:
    """Ends an inquiry in the transaction of its last messages; the caller holds the plan's lock."""
    head = conversations.head(connection, conversation_of(plan.id)).message_id or ""
    progress = replace(inquiry.progress, head=head, **known)
    status = OperationStatus.FAILED if progress.error else OperationStatus.DONE
    ended = _inquiry(operations.finish(connection, inquiry.id, status=status, outcome=asdict(progress)))
    _tell(connection, parts, plan, "answered", {"inquiry": inquiry.id, "error": progress.error[:500]})
    return ended


def append(
    connection: Connection,
    parts: Parts,
    plan: Plan,
    new: Sequence[Message],
    *,
    kept: Sequence[Blob] = (),
    subtype: str = "messages",
    data: Mapping[str, object] | None = None,
) -> None:
    """Stores messages of the plan's conversation, each once, with one event; the caller holds the plan's lock."""
    if not new:
        return
    every = parts.settings.snapshot_messages
    messages.append_all(connection, conversation_of(plan.id), new, actor=parts.actor, kept=kept, snapshot_every=every)
    _tell(connection, parts, plan, subtype, {**told_of(new), **(data or {})})


def add_context(connection: Connection, parts: Parts, plan: Plan, operation_id: str, text: str) -> str:
    """Says in the plan's conversation what a person adds as the work goes on; gives the message's id."""
    said = spoken(plan.id, message_id(operation_id, "context"), MessageRole.USER, text)
    append(connection, parts, plan, (said,), subtype="context", data={"operation": operation_id})
    return said.id


def refuse_asked(connection: Connection, plan: Plan) -> None:
    """Raises `IllegalState` while the plan's supervisor is asked something, or was cut off at it."""
    if any(each.kind == KIND for each in operations.open_ones(connection, plan_id=plan.id)):
        raise IllegalState(
            f"the supervisor of P{plan.number} is being asked",
            hint=f"wait for its answer; if that was cut off: holdfast supervisor resume P{plan.number}",
            code="running",
        )


def keep_exchange(
    connection: Connection, parts: Parts, plan: Plan, question: str, answer: str, used: TokenUsage
) -> None:
    """Stores what was asked and answered elsewhere in the plan's conversation, so that its supervisor knows of it."""
    asked = spoken(plan.id, clock.new_id(), MessageRole.USER, question)
    append(connection, parts, plan, (asked, spoken(plan.id, clock.new_id(), MessageRole.ASSISTANT, answer, used=used)))


def spoken(
    plan_id: str,
    id: str,
    role: MessageRole,
    content: str,
    *,
    at: datetime | None = None,
    used: TokenUsage | None = None,
    is_error: bool = False,
) -> Message:
    """Gives a message of the plan's conversation, not yet placed."""
    return Message(
        id=id,
        plan_id=plan_id,
        task_id=None,
        step_id=None,
        parent_id=None,
        position=0,
        role=role,
        content=content,
        at=at or clock.now(),
        is_error=is_error,
        token_count=used.total_tokens if used else 0,
        cost_usd=(used.cost_usd or 0.0) if used else 0.0,
    )


def _tell(connection: Connection, parts: Parts, plan: Plan, subtype: str, data: Mapping[str, object]) -> None:
    ids = {"project_id": plan.project_id, "plan_id": plan.id}
    events.add(connection, EventType.CHAT, subtype, parts.actor, data=data, **ids)


def _inquiry(operation: Operation) -> Inquiry:
    intent = cast("Mapping[str, Any]", operation.intent)
    outcome = dict(cast("Mapping[str, Any]", operation.outcome))
    outcome |= {name: TokenUsage(**outcome[name]) for name in ("used", "before", "told") if name in outcome}
    return Inquiry(
        operation.id,
        operation.plan_id or "",
        operation.actor,
        Asked(**intent["asked"]),
        intent["sandbox"],
        intent["earlier"],
        TokenUsage(**intent.get("told", {})),
        operation.status,
        Progress(**outcome),
    )
