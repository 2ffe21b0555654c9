"""A task of an agent under random runs, checkpoints, rewinds of code and talk, undos and redos, beside a model.

The model knows what was said, message for message, and the one file that each run adds a line to. Every checkpoint is
remembered with what it should hold of both, and has to hold it to the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.engine.test_agents import ONE, Agents
from tests.harness.postgres import PostgresServer
from tests.model.test_going_back import Played, play

from holdfast.app import continuations, conversation_rewinds, plans, rewinds, tasks, undo
from holdfast.app.continuations import Mode
from holdfast.app.rewinds import How
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.conversation import Conversation, MessageRole
from holdfast.domain.planfile import parse
from holdfast.domain.restore import Preserve
from holdfast.domain.transitions import PlanStatus
from holdfast.errors import IllegalState
from holdfast.store import check, messages

TURN = [{"say": "I begin."}, {"run": "echo more >> log"}, {"say": "Done."}]
Said = tuple[str, MessageRole, str]


@dataclass(frozen=True)
class World:
    """What was said, and what the file has."""

    talk: tuple[Said, ...] = ()
    log: str = ""


class Talking(Played):
    """One task; every rule is a verb that a person could have typed."""

    @initialize()
    def begin(self) -> None:
        self.open(permissions="allow-all", agent="worker", agents=self.folder / "agents.file")
        self.agents = Agents(self.bench.house, self.bench.project, self.bench.repository, self.folder)
        self.agents.agent(TURN)
        plan = plans.create(self.bench.house, self.bench.project, parse(ONE, source="plan"))
        self.of = Conversation(plan.id, plans.show(self.bench.house, plan.id).tasks[0].id)
        self.task = str(self.of.task_id)
        self.world = World()
        self.known: dict[str, World] = {}
        self.done: list[tuple[World, World]] = []
        self.undone: list[tuple[World, World]] = []
        self.touched = False
        plans.execute(self.bench.house, plan.id)
        self.ended()

    def ended(self) -> None:
        with self.bench.working() as worker:
            view = self.bench.until(worker, self.of.plan_id)
        assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
        before, talk = self.world, self.said()
        assert talk[: len(before.talk)] == before.talk, "what was said stays"
        assert [each[2] for each in talk[len(before.talk) :] if each[1] is MessageRole.ASSISTANT and each[2]] == [
            *("I begin.", "Done."),
        ]
        self.world = World(talk, before.log + "more\n")
        self.learn(**{CheckpointKind.INITIAL: before, CheckpointKind.STEP: self.world})
        self.done.clear()
        self.undone.clear()
        self.touched = False

    def learn(self, **of_kind: World) -> None:
        """Remembers what each new checkpoint should hold."""
        for made in self.checkpoints():
            if made.id not in self.known:
                self.known[made.id] = of_kind[made.kind]

    # -- verbs -----------------------------------------------------------------------------------------------------

    @rule()
    def go_on(self) -> None:
        continuations.continue_task(self.bench.house, self.task, Mode.WITH_CONTEXT, context="More of it")
        plans.resume(self.bench.house, self.of.plan_id)
        self.ended()

    @rule()
    def checkpoint(self) -> None:
        tasks.checkpoint(self.bench.house, self.task, "by hand")
        self.learn(**{CheckpointKind.MANUAL: self.world})
        self.touched = True

    @rule(data=st.data(), preserve=st.sampled_from(Preserve))
    def rewind(self, data: st.DataObject, preserve: Preserve) -> None:
        made = data.draw(st.sampled_from(self.checkpoints()))
        rewinds.rewind_task(self.bench.house, self.task, made, How(preserve))
        self.moved(self.known[made.id])

    @precondition(lambda self: self.world.talk)
    @rule(data=st.data(), with_code=st.booleans())
    def cut(self, data: st.DataObject, with_code: bool) -> None:
        talk = self.world.talk
        left = data.draw(st.integers(1, len(talk)))
        where = conversation_rewinds.by_messages(left)
        done = conversation_rewinds.rewind(self.bench.house, self.of, where, with_code=with_code)
        kept = len(talk) - left
        while talk[kept][1] is MessageRole.TOOL:  # a call is never cut from its result
            kept -= 1
        wanted = replace(self.world, talk=talk[:kept])
        if done.checkpoint is not None:
            bound = self.known[done.checkpoint.id]
            assert bound.talk == talk[: len(bound.talk)]
            assert len(bound.talk) <= kept
            wanted = replace(wanted, log=bound.log)
        self.moved(wanted)

    @precondition(lambda self: self.done)
    @rule()
    def undo(self) -> None:
        try:
            undo.undo(self.bench.house)
        except IllegalState:
            assert self.touched, "nothing has happened since"
            self.done.clear()
            return
        self.learn(**{CheckpointKind.PRE_REWIND: self.world})
        before, after = self.done.pop()
        self.undone.append((before, after))
        self.world = before

    @precondition(lambda self: self.undone)
    @rule()
    def redo(self) -> None:
        try:
            undo.redo(self.bench.house)
        except IllegalState:
            assert self.touched, "nothing has happened since"
            self.undone.clear()
            return
        self.learn(**{CheckpointKind.PRE_REWIND: self.world})
        before, after = self.undone.pop()
        self.done.append((before, after))
        self.world = after

    # -- between ---------------------------------------------------------------------------------------------------

    def said(self) -> tuple[Said, ...]:
        return tuple((each.id, each.role, each.content) for each in self.agents.talk(self.task))

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        return tasks.show(self.bench.house, self.task).checkpoints

    def moved(self, target: World) -> None:
        self.learn(**{CheckpointKind.PRE_REWIND: self.world})
        self.done.append((self.world, target))
        self.undone.clear()
        self.world = target

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        if hasattr(self, "known"):
            assert self.said() == self.world.talk
            log = self.agents.worktree(self.of.plan_id) / "log"
            assert (log.read_text() if log.exists() else "") == self.world.log

    def sound(self) -> None:
        for made in self.checkpoints():
            with self.bench.house.database.read() as connection:
                path = [(each.id, each.role, each.content) for each in messages.path(connection, made.message_id)]
            assert tuple(reversed(path)) == self.known[made.id].talk, made
            assert self.bench.files(made.commit).get("log", "") == self.known[made.id].log, made
        assert list(check.check(self.bench.house.database)) == []


def test_a_conversation_is_always_where_it_should_be() -> None:
    play(Talking, 1, 8, derandomize=True)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_a_conversation_is_so_for_long() -> None:
    play(Talking, 30, 15)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_a_conversation_on_postgresql_is_always_where_it_should_be(postgres: PostgresServer) -> None:
    play(Talking, 3, 8, server=postgres)
