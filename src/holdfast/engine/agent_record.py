"""Stores what an agent tells, each message once, whatever dies: messages and the journal's mark commit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast import clock
from holdfast.domain.conversation import Conversation, Heard, Message, Update
from holdfast.domain.history import EventType
from holdfast.domain.step import Step
from holdfast.domain.transcript import Folded, Mark, Transcript
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.engine.work import Work
from holdfast.failpoints import failpoint
from holdfast.store import Connection, events, messages, steps


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

    @property
    def position(self) -> int:
        return self.mark.position

    async def keep(self, updates: Sequence[Update], position: int) -> None:
        """Takes the next updates, which end at the journal record `position`."""
        self.heard = position
        await in_thread(self._store, self.transcript.feed(updates, position))

    async def end(self) -> None:
        """Closes what is open because the agent's process is over."""
        await in_thread(self._store, self.transcript.end(Heard(self.heard, clock.now())))

    def _store(self, folded: Folded) -> None:
        if not folded.messages and folded.mark.heard == self.mark.heard:
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
            self._count(connection)
        failpoint("engine.agent.recorded")
        self.mark = folded.mark

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
                data={"count": len(new), "last": new[-1].id},
            )

    def _count(self, connection: Connection) -> None:
        """Keeps what was used on the step, as it is told: a budget is looked at while the agent works."""
        used = self.transcript.usage
        if used != self.mark.heard:
            steps.use(connection, self.step.id, self.source.launch, used, claim=self.work.claim)


def open_recorder(runtime: Runtime, work: Work, step: Step, launch: str) -> Recorder:
    """Gives the recorder of a launch, at the mark that was stored with its last messages."""
    source = messages.Source(step.id, launch)
    with runtime.database.read() as connection:
        mark = messages.mark(connection, source)
    transcript = Transcript(conversation_of(work), step.id, launch, mark)
    return Recorder(runtime, work, step, source, transcript, mark, mark.position)
