"""A request becomes a plan."""

from __future__ import annotations

from collections.abc import Collection

from holdfast.domain.planfile import PlanFile, parse, render
from holdfast.errors import UsageError
from holdfast.planner.context import Context
from holdfast.planner.drafting import Drafted, Drafter, Unusable, draft, numbered
from holdfast.planner.prompts import plan_prompt
from holdfast.planner.shapes import DraftPlan


async def draft_plan(
    drafter: Drafter, request: str, context: Context, *, agents: Collection[str] = ()
) -> Drafted[PlanFile]:
    """Gives a plan for the request that every rule of plan files accepts; `agents` are those that tasks may name.

    Raises what the drafter raises, and `UserError` (code `draft_unusable`) if three answers were of no use.
    """
    prompt = plan_prompt(request, context, agents)
    return await draft(drafter, prompt, DraftPlan, lambda shape: checked(shape.spec(), agents), what="plan")


def checked(plan: PlanFile, agents: Collection[str] = ()) -> PlanFile:
    """Gives the plan as `parse` reads it back; raises `Unusable` with all that is wrong with it."""
    unknown = [task.agent for phase in plan.phases for task in phase.tasks if task.agent and task.agent not in agents]
    if unknown:
        raise Unusable(f"No agent was named {unknown[0]!r} to you; leave `agent` empty.")
    text = render(plan)
    try:
        return parse(text, source="plan")
    except UsageError as error:
        raise Unusable(
            f"Written as a plan file it has these mistakes (line:column):\n{error.message}\n\nThe plan file:\n"
            f"{numbered(text)}"
        ) from error
