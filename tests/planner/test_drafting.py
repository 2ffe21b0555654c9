"""Drafting and reviewing with a drafter that is no model: it is told the schema in words and answers in prose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.planner.drafts import CIRCULAR, GOOD, plan

from holdfast.domain.conversation import TokenUsage
from holdfast.domain.suggestions import Suggestion, apply
from holdfast.errors import Unavailable, UserError
from holdfast.planner import Answer, Context, ReviewType, draft_plan, review_plan, with_schema
from holdfast.planner.drafting import add

CONTEXT = Context("BEGIN files\nREADME.md\nEND files", (), ())


class Prose:
    """Says its answers one after the other, as an agent would, and keeps what it was told."""

    name = "agent:prose"

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.told: list[str] = []

    async def __call__(self, prompt: str, schema: Mapping[str, Any]) -> Answer:
        self.told.append(with_schema(prompt, schema))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        fenced = answer if isinstance(answer, str) else f"I looked around.\n\n```json\n{json.dumps(answer)}\n```\nDone."
        return Answer(fenced, TokenUsage(10, 5, cost_usd=0.25))


def reviewed(*answers: object) -> tuple[tuple[Suggestion, ...], Prose]:
    drafter = Prose(*answers)
    made = asyncio.run(review_plan(drafter, plan(), ReviewType.BREAK_DOWN, CONTEXT))
    return made.result, drafter


def suggestion(kind: str, target: str, **fields: object) -> dict[str, object]:
    return {"kind": kind, "target": target, "reasoning": "Because.", **fields}


def test_an_agent_is_told_the_schema_and_read_out_of_its_prose() -> None:
    drafter = Prose(CIRCULAR, GOOD)
    made = asyncio.run(draft_plan(drafter, "Greet people", CONTEXT))
    assert made.result.title == "Add a greeting"
    assert made.author == "agent:prose"
    assert made.usage == TokenUsage(20, 10, cost_usd=0.5)
    assert '"DraftPhase"' in drafter.told[0]
    assert "in a circle" in drafter.told[1]


def test_what_a_drafter_raises_is_passed_on() -> None:
    with pytest.raises(Unavailable):
        asyncio.run(draft_plan(Prose(Unavailable("gone")), "Greet", CONTEXT))


def test_a_cost_that_one_answer_does_not_tell_is_not_known_of_all() -> None:
    assert add(TokenUsage(1, cost_usd=0.5), TokenUsage(1)).cost_usd is None
    assert add(TokenUsage(), TokenUsage(1, cost_usd=0.5)).cost_usd == 0.5


def test_parts_take_over_what_the_whole_waited_for() -> None:
    parts = [
        {"title": "A", "run": "true"},
        {"title": "B", "run": "true", "depends_on": ["a"]},
    ]
    [found], _ = reviewed({"suggestions": [suggestion("break_down_task", "view", parts=parts)]})
    assert [task.depends_on for task in found.after.tasks] == [("model",), ("a",)]
    assert [task.key for task in apply(plan(), found).phases[0].tasks] == ["model", "a", "b"]


def test_a_command_takes_the_place_of_instructions_and_they_of_it() -> None:
    wanted = [
        suggestion("modify_task", "pack", changes={"instructions": "Pack it by hand."}),
        suggestion("modify_task", "pack", changes={"title": "Pack all", "run": None}),
    ]
    (by_agent, titled), _ = reviewed({"suggestions": wanted})
    assert (by_agent.after.tasks[0].run, by_agent.after.tasks[0].instructions) == ("", "Pack it by hand.")
    assert (titled.after.tasks[0].run, titled.after.tasks[0].title) == ("make pack", "Pack all")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (suggestion("modify_task", "nobody", changes={"title": "x"}), "it needs a task 'nobody'"),
        (suggestion("modify_task", "pack"), "it needs a `changes`"),
        (suggestion("modify_task", "pack", changes={"title": "Pack"}), "it changes nothing"),
        (suggestion("modify_task", "model", changes={"depends_on": ["view"]}), "in a circle"),
        (suggestion("modify_task", "pack", changes={"run": ""}), "neither `instructions` nor `run`"),
        (suggestion("add_task", "Build"), "it needs a task"),
        (suggestion("add_task", "Nowhere", task={"title": "T", "run": "true"}), "no phase 'Nowhere'"),
        (suggestion("add_task", "Build", task={"title": "Pack", "run": "true"}), "a task 'pack'"),
        (suggestion("add_phase", "", phase={"title": "Ship", "tasks": [{"title": "T", "run": "x"}]}), "a phase 'Ship'"),
        (suggestion("reorder", "Build", order=["model", "view"]), "in a new order"),
        (suggestion("reorder", "Build", order=["view"]), "each once"),
        (suggestion("break_down_task", "view", parts=[{"title": "T", "run": "true"}]), "at least two"),
        (suggestion("explode", "view"), "kind"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_suggestion_that_does_not_fit_goes_back_with_the_reason(wrong: dict[str, object], told: str) -> None:
    found, drafter = reviewed({"suggestions": [wrong]}, {"suggestions": []})
    assert found == ()
    assert told in drafter.told[1]


def test_a_review_that_never_fits_is_one_error() -> None:
    wrong = {"suggestions": [suggestion("reorder", "Nowhere", order=[])]}
    with pytest.raises(UserError) as caught:
        reviewed(wrong, wrong, wrong)
    assert caught.value.code == "draft_unusable"
