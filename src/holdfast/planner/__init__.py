"""The planner: a model, or a coding agent, drafts plans and reviews them. Only this room calls a model.

What it promises to the rooms above it:

- `draft_plan(drafter, request, context)` gives a `PlanFile` that has passed every rule of plan files, or raises one
  error; `review_plan(drafter, …)` gives suggestions that each fit the plan they are made for, `rescue_plan`
  such for a plan whose tasks failed, `answer_question` an answer in words. Nothing is stored here.
- A `Drafter` is one conversation with whoever writes: `ModelDrafter` (any provider that pydantic-ai knows), or what a
  caller makes of an agent, which is told the schema by `with_schema`. It may answer in JSON alone or within prose;
  one that does not fit is sent back with all that is wrong with it, at most twice.
- `context` makes what the drafter is told of a project out of plain values: bounded, and saying what it leaves out.

    shapes.py     what a drafter answers, as pydantic models
    drafting.py   ask, check, send back
    prompts.py    what a drafter is asked
    context.py    what a drafter is told of the project
    answering.py  a question in words, and its answer
    model.py      a drafter behind a model's API

All of it that waits for a drafter is async. pydantic-ai is loaded when a model is first asked, not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.planner.answering import answer_question
    from holdfast.planner.context import Context, Facts
    from holdfast.planner.drafting import Answer, Drafted, Drafter
    from holdfast.planner.generate import draft_plan
    from holdfast.planner.model import ModelDrafter
    from holdfast.planner.prompts import with_schema
    from holdfast.planner.review import ReviewType, rescue_plan, review_plan

_HOMES = {
    "Answer": "holdfast.planner.drafting",
    "Context": "holdfast.planner.context",
    "Drafted": "holdfast.planner.drafting",
    "Drafter": "holdfast.planner.drafting",
    "Facts": "holdfast.planner.context",
    "ModelDrafter": "holdfast.planner.model",
    "ReviewType": "holdfast.planner.review",
    "draft_plan": "holdfast.planner.generate",
    "answer_question": "holdfast.planner.answering",
    "rescue_plan": "holdfast.planner.review",
    "review_plan": "holdfast.planner.review",
    "with_schema": "holdfast.planner.prompts",
}

__all__ = [
    "Answer",
    "Context",
    "Drafted",
    "Drafter",
    "Facts",
    "ModelDrafter",
    "ReviewType",
    "answer_question",
    "draft_plan",
    "rescue_plan",
    "review_plan",
    "with_schema",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: pydantic is not needed for `--help`."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
