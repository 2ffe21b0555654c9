"""What agents use is kept as they tell it, and a budget stops them in the middle of a turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.engine.conftest import Bench
from tests.engine.test_permissions import house as house
from tests.engine.test_permissions import plan_of, script

from holdfast.app import approvals, execution, history, planning, plans
from holdfast.cli.ending import advice
from holdfast.domain.budget import Budget
from holdfast.domain.transitions import PauseReason, PlanStatus
from holdfast.domain.usage import Spent

TOLD = {"used": 1000, "cost": 0.75}
TOKENS = {"input": 1_000_000, "output": 100, "cached": 50, "thought": 7}


@pytest.mark.parametrize("place", ["plan", "task"])
def test_a_cost_that_is_told_in_mid_turn_stops_the_agent_when_it_reaches_the_budget(house: Bench, place: str) -> None:
    script(house, [{"usage": TOLD}, {"once": "hung", "hang": True}])
    limit = "budget: {max_cost_usd: 0.5, max_tokens: 5000}"
    plan = house.start(
        plan_of(f"title: one, instructions: a{', ' + limit if place == 'task' else ''}", head=limit * (place == "plan"))
    )
    with house.working() as worker:
        view = house.until(worker, plan.id)
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.BUDGET)
    assert execution.exit_code(view.plan) == 9
    assert view.spent.cost_usd == 0.75
    assert view.steps[0].interrupted
    of_task = " --task T1" if place == "task" else ""
    more = f"holdfast plan budget P1{of_task} --max-tokens 5000 --max-cost-usd …"
    assert f"give it more:  {more}   then   holdfast resume P1" in advice(house.house, view)
    plans.set_budget(house.house, plan.id, Budget(), task_id=view.tasks[0].id if place == "task" else None)
    assert house.again(plan.id).plan.status is PlanStatus.COMPLETED


def test_who_is_over_budget_asks_no_person(house: Bench) -> None:
    script(house, [{"usage": TOLD}, {"ask": {"title": "Run it", "kind": "execute", "allow": [], "reject": []}}])
    view = house.run(plan_of("title: one, instructions: a", head="budget: {max_cost_usd: 0.5}"))
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.BUDGET)
    assert view.steps[0].interrupted
    assert approvals.list_(house.house, open_only=False) == ()


def test_tokens_that_are_told_reach_the_budget_before_the_next_task(house: Bench) -> None:
    script(house, [{"usage": TOKENS}])
    tasks = ("title: one, instructions: a", "title: two, instructions: b")
    view = house.run(plan_of(*tasks, head="budget: {max_tokens: 1000}"))
    assert view.plan.pause_reason is PauseReason.BUDGET
    assert [str(task.status) for task in view.tasks] == ["completed", "pending"]


@pytest.mark.parametrize(
    ("usage", "model", "spent"),
    [
        (TOKENS, "nobody-knows", Spent(1_000_000, 100, 50, 7)),
        (TOKENS, "own-model", Spent(1_000_000, 100, 50, 7, cost_usd=2.0, estimated=True)),
        (TOLD | TOKENS, "own-model", Spent(1_000_000, 100, 50, 7, cost_usd=0.75)),
    ],
)
def test_a_cost_is_the_agents_own_else_of_the_price_table_else_unknown(
    house: Bench, usage: Mapping[str, Any], model: str, spent: Spent
) -> None:
    house.house.settings.prices = house.house.settings.data.parent / "prices.toml"
    house.house.settings.prices.write_text('price = [{model = "own-model", input = 2.0, cached = 0.0, output = 0.0}]')
    script(house, [{"usage": usage}], more=f'model = "{model}"')
    view = house.run(plan_of())
    assert view.plan.status is PlanStatus.COMPLETED
    assert view.spent == spent
    assert view.warnings == (), "no limit is of cost"


def test_a_limit_of_cost_that_sees_nothing_says_so_before_and_once_meanwhile(house: Bench) -> None:
    script(house, [{"usage": TOKENS}])
    head = "budget: {max_cost_usd: 0.5}"
    plan = house.start(plan_of("title: one, instructions: a", "title: two, instructions: b", head=head))
    (before,) = planning.warnings(house.house, plan.id)
    assert before.startswith("the plan's max_cost_usd may never be reached: nobody knows yet what the tokens of T1, T2")
    with house.working() as worker:
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    (told,) = view.warnings
    assert told == "max_cost_usd (0.5) does not see tokens whose cost nobody knows; only max_tokens would count them"
    found = history.timeline(house.house, plan_id=plan.id, limit=200).items
    assert [event.data["message"] for event in found if event.subtype == "cost_unknown"] == [told]
