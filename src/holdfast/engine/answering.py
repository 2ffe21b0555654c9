"""A worker goes on with what people asked plans' supervisors, where the command that asked is dead.

What the engine itself asked after a failure is left to the plan's driver, which takes it up again. Each plan has a
thread of its own here while its supervisor answers; a worker that ends leaves the agent at work for the next one.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from holdfast.engine import inquiries, supervisor
from holdfast.engine.inquiries import Inquiry
from holdfast.engine.runtime import LOG, Runtime, attempted, guarded, in_thread
from holdfast.failpoints import failpoint
from holdfast.store import operations, plans


class Answering:
    """The answers that one worker goes on with."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._at_work: dict[str, _Answer] = {}
        self._failed: set[str] = set()

    def take_up(self) -> None:
        """Begins to go on with what was cut off, plan by plan."""
        self._at_work = {plan_id: each for plan_id, each in self._at_work.items() if each.is_alive()}
        for plan_id in cut_off(self._runtime, self._failed) - self._at_work.keys():
            if supervisor.is_free(self._runtime, plan_id):
                self._at_work[plan_id] = _Answer(self._runtime, plan_id, self._failed)
                self._at_work[plan_id].start()

    def close(self) -> None:
        for each in self._at_work.values():
            each.leave()
        for each in self._at_work.values():
            each.join()


def cut_off(runtime: Runtime, but: set[str]) -> set[str]:
    """Gives the plans of this home whose supervisor was asked something by a person and has not answered."""
    with runtime.database.read() as connection:
        asked = [each for each in operations.open_ones(connection) if each.kind == inquiries.KIND]
        found = {each.plan_id or "" for each in asked if not inquiries.is_engines(each.actor) and each.id not in but}
        return {plan_id for plan_id in found if plans.home(connection, plan_id) == runtime.places.home}


class _Answer(threading.Thread):
    """The supervisor of one plan, until it has answered everything that was cut off."""

    def __init__(self, runtime: Runtime, plan_id: str, failed: set[str]) -> None:
        super().__init__(name=f"holdfast-answer-{plan_id}", daemon=True)
        self._runtime = runtime
        self._plan_id = plan_id
        self._failed = failed
        self._loop = asyncio.new_event_loop()
        self._work: asyncio.Task[None] | None = None
        self._left = False

    def leave(self) -> None:
        """Lets the agent work on without this process."""
        self._left = True
        with suppress(RuntimeError):  # it has just ended, and its loop with it
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._work is not None:
            self._work.cancel()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, suppress(asyncio.CancelledError):
            runner.run(self._go_on())

    async def _go_on(self) -> None:
        self._work = asyncio.current_task()
        if not self._left:
            await guarded(self._answer_all())

    async def _answer_all(self) -> None:
        async with supervisor.held(self._runtime, self._plan_id):
            for inquiry in await in_thread(self._open):
                await self._answer(inquiry)

    def _open(self) -> list[Inquiry]:
        with self._runtime.database.read() as connection:
            asked = inquiries.of_plan(connection, self._plan_id)
        return [each for each in asked if each.open and not inquiries.is_engines(each.actor)]

    async def _answer(self, inquiry: Inquiry) -> None:
        failpoint("engine.answering.taken_up")
        answering = supervisor.answer(
            self._runtime, inquiry, tell=lambda _inquiry, _updates: None, stop=asyncio.Event()
        )
        done = await attempted(answering)
        if done["error"]:
            LOG.warning("the supervisor of %s is not asked again: %s", self._plan_id, done["error"])
            self._failed.add(inquiry.id)
