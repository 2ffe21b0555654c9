"""A plan's supervisor is asked; what was cut off when an asking process died is gone on with first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from holdfast import clock
from holdfast.app.plans import refuse_foreign
from holdfast.app.wire import House
from holdfast.domain.conversation import TokenUsage
from holdfast.domain.plan import Plan, Project
from holdfast.engine import confine, inquiries, restoring, supervisor
from holdfast.engine.agent_choice import supervisor_of
from holdfast.engine.inquiries import Asked, Inquiry
from holdfast.engine.supervisor import Tell
from holdfast.errors import OverBudget, Unavailable, UsageError
from holdfast.failpoints import failpoint
from holdfast.store import plans, projects

MAX_QUESTION = 20_000


@dataclass(frozen=True, slots=True)
class Answered:
    """What a supervisor was asked and what it said; `error` says why where it gave no answer."""

    plan: Plan
    question: str
    answer: str
    author: str
    usage: TokenUsage
    error: str


def ask(
    house: House,
    plan_id: str,
    question: str,
    *,
    agent: str = "",
    model: str = "",
    tell: Tell = lambda _inquiry, _updates: None,
    on_wait: Callable[[], None] = lambda: None,
) -> Answered:
    """Asks the supervisor of a plan in any state, in the plan's own conversation, and gives its answer once it is over.

    `tell` hears what is said as it is said; `on_wait` is called where another process asks it just now. Interrupted, it
    stops the supervisor; killed, it leaves it at work for who asks next. Raises `Unavailable` if it gives no answer,
    `OverBudget` if the plan's budget is used up.
    """
    if not question.strip():
        raise UsageError("the question is empty", hint='ask something: holdfast supervisor ask P1 "what is left?"')
    if len(question) > MAX_QUESTION:
        raise UsageError(f"the question is longer than {MAX_QUESTION:,} characters", hint="put the rest into a file")
    plan, project = _here(house, plan_id)
    author = supervisor_of(house.settings, project, plan, agent=agent, model=model)
    sandbox = str(confine.sandbox_of(house.settings, project).name)
    asked = Asked(question.strip(), question.strip(), author)

    async def work() -> Inquiry:
        async with supervisor.held(house, plan_id, on_wait=on_wait):
            await _go_on(house, plan_id, tell)
            return await _stoppable(house, _begin(house, plan_id, asked, sandbox), tell)

    inquiry = asyncio.run(work())
    done = _answered(house, inquiry)
    if inquiry.progress.code == supervisor.OVER_BUDGET:
        raise OverBudget(f"{author} gave no answer: {done.error}", hint="then ask again")
    if done.error:
        raise Unavailable(f"{author} gave no answer: {done.error}", hint="look: holdfast agent check", code="no_answer")
    return done


def resume(
    house: House,
    plan_id: str,
    *,
    tell: Tell = lambda _inquiry, _updates: None,
    on_wait: Callable[[], None] = lambda: None,
) -> tuple[Answered, ...]:
    """Goes on with the questions to a plan's supervisor whose asking process died; gives what came of them."""
    _here(house, plan_id)

    async def work() -> list[Inquiry]:
        async with supervisor.held(house, plan_id, on_wait=on_wait):
            return await _go_on(house, plan_id, tell)

    return tuple(_answered(house, each) for each in asyncio.run(work()))


def _here(house: House, plan_id: str) -> tuple[Plan, Project]:
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
        project = projects.get(connection, plan.project_id)
    refuse_foreign(house, project)
    return plan, project


def _begin(house: House, plan_id: str, asked: Asked, sandbox: str) -> Inquiry:
    with house.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        restoring.refuse_restoring(connection, plan)
        inquiry = inquiries.begin(connection, house, plan, clock.new_id(), asked, sandbox)
    failpoint("app.supervisor.asked")
    return inquiry


async def _go_on(house: House, plan_id: str, tell: Tell) -> list[Inquiry]:
    with house.database.read() as connection:
        cut_off = [each for each in inquiries.of_plan(connection, plan_id) if each.open]
    return [await _stoppable(house, each, tell) for each in cut_off]


async def _stoppable(house: House, inquiry: Inquiry, tell: Tell) -> Inquiry:
    """Gives the answered inquiry; an interrupt stops the supervisor and closes the inquiry first."""
    stop = asyncio.Event()
    answering = asyncio.ensure_future(supervisor.answer(house, inquiry, tell=tell, stop=stop))
    try:
        return await asyncio.shield(answering)
    except asyncio.CancelledError:
        stop.set()
        await answering
        raise


def _answered(house: House, inquiry: Inquiry) -> Answered:
    with house.database.read() as connection:
        plan = plans.get(connection, inquiry.plan_id)
    told, asked = inquiry.progress, inquiry.asked
    return Answered(plan, asked.question, told.answer, asked.author, told.used, told.error)
