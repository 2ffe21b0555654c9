"""Estimates: percentiles of what was done, honest where nothing was."""

from __future__ import annotations

from statistics import median

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import make_phase, make_plan, make_task

from holdfast.domain.budget import Budget
from holdfast.domain.estimate import (
    AGENT_TOKENS,
    LEAST_SAMPLES,
    Basis,
    Estimate,
    PastTask,
    Spread,
    estimate,
    spread,
    total,
    unguarded,
)
from holdfast.domain.plan import Phase, PhaseMode
from holdfast.domain.task import Executor, Task
from holdfast.domain.transitions import TaskStatus

amounts = st.floats(0, 1e6)


def done(seconds: float, *, project: str = "here", agent: str = "", **changes: object) -> PastTask:
    executor = Executor.AGENT if agent else Executor.COMMAND
    values = {"command": "make", "tokens": 0, "cost_usd": 0.0, **changes}
    return PastTask(project, executor, agent, seconds=seconds, **values)  # type: ignore[arg-type]


def estimated(
    tasks: list[Task], past: list[PastTask], *, phases: list[Phase] | None = None, **given: object
) -> Estimate:
    values = {"project_id": "here", "max_parallel": 4, "token_cost": lambda _: None, **given}
    return estimate(phases or [make_phase()], tasks, past, **values)  # type: ignore[arg-type]


@given(st.lists(amounts, min_size=1))
def test_a_spread_lies_within_its_values_and_in_order(values: list[float]) -> None:
    found = spread(values)
    assert min(values) <= found.low <= found.middle <= found.high <= max(values)
    assert found.middle == spread(list(reversed(values))).middle
    assert abs(found.middle - median(values)) <= 1e-6 * max(1.0, *values)


@given(st.lists(amounts, min_size=1), amounts)
def test_one_more_dear_value_makes_nothing_cheaper(values: list[float], more: float) -> None:
    before, after = spread(values), spread([*values, max(values) + more])
    assert after.low >= before.low - 1e-6
    assert after.middle >= before.middle - 1e-6
    assert after.high >= before.high - 1e-6


@given(st.lists(st.lists(amounts, min_size=LEAST_SAMPLES, max_size=12), min_size=1, max_size=5), st.booleans())
def test_a_plan_lasts_no_longer_than_its_tasks_one_by_one(history: list[list[float]], parallel: bool) -> None:
    tasks = [make_task(f"t{n}", n, command=f"make {n}") for n in range(len(history))]
    past = [done(each, command=f"make {n}") for n, values in enumerate(history) for each in values]
    phase = make_phase(mode=PhaseMode.PARALLEL if parallel else PhaseMode.SEQUENTIAL)
    found = estimated(tasks, past, phases=[phase])
    assert found.work_seconds == total(one.seconds for one in found.tasks)
    longest = max(one.seconds.high for one in found.tasks)
    assert longest - 1e-6 <= found.elapsed_seconds.high <= found.work_seconds.high + 1e-6
    if not parallel:
        assert found.elapsed_seconds == found.work_seconds
    assert all(one.basis is Basis.SAME_WORK for one in found.tasks)


def test_the_most_alike_tasks_that_are_enough_are_taken() -> None:
    same = [done(1.0)] * LEAST_SAMPLES
    here = [done(10.0, command="other")] * LEAST_SAMPLES
    elsewhere = [done(100.0, project="there")] * LEAST_SAMPLES
    agents = [done(1000.0, agent="codex")] * LEAST_SAMPLES
    task = [make_task("t", command="make")]
    chosen = [
        estimated(task, past).tasks[0]
        for past in ([*same, *here, *agents], [*same[1:], *here], [*same[1:], *elsewhere], [*same[1:], *agents])
    ]
    assert [each.basis for each in chosen] == [Basis.SAME_WORK, Basis.PROJECT, Basis.ALL_PROJECTS, Basis.SIZE]
    assert chosen[0].seconds == Spread(1, 1, 1)
    assert [each.samples for each in chosen] == [5, 9, 9, 0]


def test_a_cost_that_is_not_known_of_one_task_is_not_known_of_the_plan() -> None:
    agent = {"executor": Executor.AGENT, "command": "", "agent": "codex"}
    tasks = [make_task("command"), make_task("agent", 1, **agent)]
    assert estimated(tasks, []).cost_usd is None
    assert estimated(tasks[:1], []).cost_usd == Spread(0, 0, 0)
    priced = estimated(tasks, [], token_cost=lambda tokens: tokens / 1e6)
    assert priced.cost_usd == Spread(AGENT_TOKENS.low / 1e6, AGENT_TOKENS.middle / 1e6, AGENT_TOKENS.high / 1e6)


def test_the_cost_that_past_tasks_told_is_taken_before_any_price() -> None:
    tasks = [make_task("agent", executor=Executor.AGENT, command="", agent="codex")]
    told = [done(60, agent="codex", command="", tokens=1000, cost_usd=0.25)] * LEAST_SAMPLES
    assert estimated(tasks, told, token_cost=lambda _: 99.0).cost_usd == Spread(0.25, 0.25, 0.25)
    silent = [done(60, agent="codex", command="", tokens=1000, cost_usd=None)] * LEAST_SAMPLES
    assert estimated(tasks, silent).cost_usd is None
    assert estimated(tasks, silent, token_cost=lambda tokens: tokens / 1000).cost_usd == Spread(1, 1, 1)


def test_a_limit_of_cost_alone_is_unguarded_where_nobody_knows_what_an_agent_costs() -> None:
    alone = Budget(max_cost_usd=1.0)
    agent = {"executor": Executor.AGENT, "command": "", "agent": "codex"}
    tasks = [make_task("command", budget=alone), make_task("agent", 1, **agent, budget=alone)]
    found = estimated(tasks, [])
    assert [told.split()[0] for told in unguarded(make_plan(), tasks, found, lambda _: False)] == ["T0's"]
    assert len(list(unguarded(make_plan(budget=alone), tasks, found, lambda _: False))) == 2
    assert list(unguarded(make_plan(budget=alone), tasks, found, lambda task: task is tasks[1])) == []
    both = make_plan(budget=Budget(max_cost_usd=1.0, max_tokens=1))
    assert list(unguarded(both, tasks[:1], estimated(tasks[:1], []), lambda _: False)) == []


def test_what_is_finished_counts_as_nothing_and_a_guess_keeps_to_the_time_limit() -> None:
    tasks = [make_task("over", status=TaskStatus.COMPLETED), make_task("limited", 1, timeout_seconds=20.0)]
    found = estimated(tasks, [])
    assert found.tasks[0].basis is Basis.DONE
    assert found.work_seconds == Spread(1, 15, 20)
    assert any("rough guess" in each for each in found.assumptions)


def test_a_plan_without_tasks_takes_nothing() -> None:
    found = estimated([], [])
    assert found.work_seconds == found.elapsed_seconds == found.tokens == found.cost_usd == Spread(0, 0, 0)
