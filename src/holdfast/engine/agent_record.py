"""Stores what an agent tells, each message once, whatever dies: messages and the journal's mark commit together.

With the prompt the step learns which of the agent's sessions knows the task: only such a session is loaded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from holdfast import clock
from holdfast.domain import prices
from holdfast.domain.budget import blind
from holdfast.domain.conversation import Conversation, Heard, Message, Prompted, TokenUsage, Update, told_of
from holdfast.domain.history import EventType
from holdfast.domain.step import Step
from holdfast.domain.transcript import Folded, Mark, Transcript
from holdfast.engine.pricing import price_table
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.engine.work import Work
from holdfast.failpoints import failpoint
from holdfast.store import Connection, events, messages, plans, steps, tasks


@dataclass(frozen=True, slots=True)
class Session:
    """What a step remembers of its agent's sessions.

    `launch` counts the processes started for it, from 0; `opened` is the session that the last of them opened, `id` the
    last one that was told the task, empty before; `deaths` counts the processes that died in mid-turn.
    """

    launch: int = 0
    opened: str = ""
    id: str = ""
    deaths: int = 0

    @classmethod
    def of(cls, step: Step) -> Session:
        kept = step.details.get("session")
        return cls(**cast("Mapping[str, Any]", kept)) if isinstance(kept, Mapping) else cls()

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return f"agent-{self.launch}"

    def within(self, step: Step) -> Mapping[str, object]:
        """Gives the details of a step that remember this."""
        return {**step.details, "session": asdict(self)}


def conversation_of(work: Work) -> Conversation:
    return Conversation(work.plan.id, work.task.id)


@dataclass(slots=True)
class Recorder:
    """Folds the updates of one launch into messages and stores them; `position` is the record that it goes on after."""

    runtime: Runtime
    work: Work
    step: Step
    source: messages.Source
    transcript: Transcript
    mark: Mark
    heard: int
    used: TokenUsage

    @property
    def position(self) -> int:
        return self.mark.position

    async def keep(self, updates: Sequence[Update], position: int) -> None:
        """Takes the next updates, which end at the journal record `position`."""
        self.heard = max(self.heard, position)
        prompted = any(isinstance(update, Prompted) for update in updates)
        await in_thread(self._store, self.transcript.feed(updates, position), prompted)

    async def end(self) -> None:
        """Closes what is open because the agent's process is over."""
        await in_thread(self._store, self.transcript.end(Heard(self.heard, clock.now())))
        await in_thread(self._warn)

    def _store(self, folded: Folded, prompted: bool = False) -> None:
        used = self.transcript.usage
        if not folded.messages and used == self.used:
            return  # nothing that could be lost: a fold begun before it comes to the same
        settings = self.runtime.settings
        new, kept = messages.keep_big_results(self.runtime.places.blobs, folded.messages, settings.result_max_bytes)
        with self.runtime.database.transaction() as connection:
            messages.append_all(
                connection,
                conversation_of(self.work),
                new,
                actor=self.runtime.actor,
                source=self.source,
                mark=folded.mark,
                kept=kept,
                claim=self.work.claim,
                snapshot_every=settings.snapshot_messages,
            )
            self._tell(connection, new)
            if prompted:
                self._remember_session(connection)
            if used != self.used:
                # As it is told, and in the middle of a speech too: a budget is looked at while the agent works.
                priced, launch = self._priced(used), self.source.launch
                estimated = priced.cost_usd != used.cost_usd
                steps.use(connection, self.step.id, launch, priced, estimated=estimated, claim=self.work.claim)
        failpoint("engine.agent.recorded")
        self.mark, self.used = folded.mark, used

    def _tell(self, connection: Connection, new: Sequence[Message]) -> None:
        """Writes one event for the messages: who follows the plan fetches them."""
        if new:
            events.add(
                connection,
                EventType.CHAT,
                "messages",
                self.runtime.actor,
                project_id=self.step.project_id,
                plan_id=self.step.plan_id,
                phase_id=self.work.phase.id,
                task_id=self.step.task_id,
                step_id=self.step.id,
                data=told_of(new),
            )

    def _priced(self, used: TokenUsage) -> TokenUsage:
        """Adds the cost that follows from the model's price where the agent tells none and the model is known."""
        if not used.total_tokens:
            return used
        model = str(self.step.agent_config.get("model", ""))
        table = price_table(self.runtime.settings)
        return replace(used, cost_usd=prices.cost_of(table, model, used, clock.now().date()))

    def _warn(self) -> None:
        """Says, once a plan, that the cost of what was used is not known, where a budget limits it."""
        known = self._priced(self.used).cost_usd is not None or not self.used.total_tokens
        if known:
            return
        with self.runtime.database.transaction() as connection:
            plan = plans.lock(connection, self.work.plan.id)
            task = tasks.get(connection, self.work.task.id)
            told = blind(plan.budget, cost_known=False) or blind(task.budget, cost_known=False)
            before = events.list_(connection, plan_id=plan.id, type=EventType.PLAN, subtype="cost_unknown", limit=1)
            if told and not before.items:
                data = {"task": f"T{task.number}", "message": told}
                plans.tell(connection, plan, "cost_unknown", self.runtime.actor, data)

    def _remember_session(self, connection: Connection) -> None:
        step = steps.lock(connection, self.step.id)
        session = Session.of(step)
        known = replace(session, id=session.opened)
        steps.set_fields(connection, step.id, claim=self.work.claim, details=known.within(step))


def open_recorder(runtime: Runtime, work: Work, step: Step, before: Sequence[Step]) -> Recorder:
    """Gives the recorder of a step's present launch, at the mark that was stored with its last messages.

    `before` are the steps, newest first, that the session it wants to load was held in, if it wants one.
    """
    source = messages.Source(step.id, Session.of(step).name)
    with runtime.database.read() as connection:
        mark = messages.mark(connection, source)
        told = _last_told(connection, step, before)
    root = runtime.workspaces.path(work.place)
    transcript = Transcript(conversation_of(work), step.id, source.launch, mark, root=root, before=told)
    return Recorder(runtime, work, step, source, transcript, mark, mark.position, transcript.usage)


def _last_told(connection: Connection, step: Step, before: Sequence[Step]) -> TokenUsage:
    """Gives the last that was told of what a session used, in the launches of these steps before the present one."""
    for each in before:
        last = Session.of(each).launch - (each.id == step.id)
        for launch in range(last, -1, -1):
            told = messages.mark(connection, messages.Source(each.id, Session(launch).name)).heard
            if told != TokenUsage():
                return told
    return TokenUsage()
