"""What a plan will probably take: from tasks like its own that have been done, else from nothing but its size.

Every figure is a `Spread`: nine times in ten it was not less than `low`, half of the time not more than `middle`, nine
times in ten not more than `high`. Sums add low to low and high to high, as if all tasks turned out cheap, or dear,
together: that is wider than chance alone would make it, since tasks of one plan do tend to be alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from holdfast.domain.budget import Budget
from holdfast.domain.dependencies import elapsed
from holdfast.domain.plan import Phase, Plan
from holdfast.domain.task import Executor, Task
from holdfast.domain.transitions import TASK_DONE

# With fewer, the tenth and the ninetieth percentile say nothing.
LEAST_SAMPLES = 5


class Basis(StrEnum):
    """What a task's figures come from, the best first."""

    DONE = "done"
    SAME_WORK = "same_work"
    PROJECT = "project"
    ALL_PROJECTS = "all_projects"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Spread:
    """The 10th percentile, the median and the 90th percentile."""

    low: float
    middle: float
    high: float

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.low + other.low, self.middle + other.middle, self.high + other.high)


NOTHING = Spread(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class PastTask:
    """What a finished task took in all its steps; `cost_usd` None where it is not known."""

    project_id: str
    executor: Executor
    agent: str
    command: str
    seconds: float
    tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class TaskEstimate:
    """What one task will take; `samples` is how many past tasks that was taken from."""

    task_id: str
    basis: Basis
    samples: int
    seconds: Spread
    tokens: Spread
    cost_usd: Spread | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left of a plan: `work_seconds` of its tasks together, `elapsed_seconds` from start to end.

    `cost_usd` is None if the cost of any of its tasks is not known: a part of a sum is not the sum.
    """

    tasks: tuple[TaskEstimate, ...]
    work_seconds: Spread
    elapsed_seconds: Spread
    tokens: Spread
    cost_usd: Spread | None
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...] = ()


# Rough figures for a task of which nothing is known; `ASSUMPTIONS` tells them to whoever sees the result.
COMMAND_SECONDS = Spread(1, 15, 300)
AGENT_SECONDS = Spread(60, 300, 1800)
AGENT_TOKENS = Spread(30_000, 200_000, 1_500_000)

ASSUMPTIONS: Mapping[Basis, str] = {
    Basis.DONE: "what is finished already counts as nothing",
    Basis.SAME_WORK: "the same command was run before in this project",
    Basis.PROJECT: "from tasks of the same kind in this project",
    Basis.ALL_PROJECTS: "from tasks of the same kind in other projects too",
    Basis.SIZE: "nothing like it was run before: a rough guess of 1 s to 5 min for a command, "
    "1 to 30 min and 30,000 to 1.5 million tokens for an agent",
}

TokenCost = Callable[[float], float | None]


def estimate(
    phases: Sequence[Phase],
    tasks: Sequence[Task],
    past: Sequence[PastTask],
    *,
    project_id: str,
    max_parallel: int,
    token_cost: TokenCost,
) -> Estimate:
    """Gives what the unfinished tasks of a plan will take, given what finished ones took.

    `token_cost` gives the US dollars of a number of tokens, None where no price is known; it is asked only where no
    past task tells its cost.
    """
    each = tuple(_task(task, past, project_id, token_cost) for task in tasks)
    used = sorted({one.basis for one in each}, key=list(Basis).index)
    costs = [one.cost_usd for one in each]
    known = [cost for cost in costs if cost is not None]
    return Estimate(
        tasks=each,
        work_seconds=total(one.seconds for one in each),
        elapsed_seconds=Spread(
            *(
                elapsed(phases, tasks, {one.task_id: getattr(one.seconds, part) for one in each}, max_parallel)
                for part in ("low", "middle", "high")
            )
        ),
        tokens=total(one.tokens for one in each),
        cost_usd=total(known) if len(known) == len(costs) else None,
        assumptions=tuple(ASSUMPTIONS[basis] for basis in used),
    )


def unguarded(plan: Plan, tasks: Sequence[Task], found: Estimate, priced: Callable[[Task], bool]) -> Iterator[str]:
    """Says which limits of cost may never be reached, with no limit of tokens beside them.

    `priced` tells whether the tokens of a task's agent have a price, so that its cost will be known all the same.
    """
    by_id = {task.id: task for task in tasks}
    unknown = [by_id[one.task_id] for one in found.tasks if one.cost_usd is None and not priced(by_id[one.task_id])]
    if unknown and limits_cost_alone(plan.budget):
        yield _UNGUARDED.format(whose="the plan's", names=", ".join(f"T{task.number}" for task in unknown))
    for task in unknown:
        if limits_cost_alone(task.budget):
            yield _UNGUARDED.format(whose=f"T{task.number}'s", names=f"T{task.number}")


def limits_cost_alone(budget: Budget) -> bool:
    return budget.max_cost_usd is not None and budget.max_tokens is None


_UNGUARDED = (
    "{whose} max_cost_usd may never be reached: nobody knows yet what the tokens of {names} cost; "
    "set max_tokens too, or name the price of the model (HOLDFAST_PRICES)"
)


def total(spreads: Iterable[Spread]) -> Spread:
    """Gives the sum of spreads, part by part."""
    return sum(spreads, NOTHING)


def spread(values: Iterable[float]) -> Spread:
    """Gives the 10th, 50th and 90th percentile of at least one value, between two values in proportion."""
    ordered = sorted(values)
    return Spread(*(_quantile(ordered, share) for share in (0.1, 0.5, 0.9)))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    # Written so that equal neighbours give exactly themselves.
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _task(task: Task, past: Sequence[PastTask], project_id: str, token_cost: TokenCost) -> TaskEstimate:
    if task.status in TASK_DONE:
        return TaskEstimate(task.id, Basis.DONE, 0, NOTHING, NOTHING, NOTHING)
    basis, like = _alike(task, past, project_id)
    if not like:
        return _by_size(task, token_cost)
    tokens = spread(one.tokens for one in like)
    told = [one.cost_usd for one in like if one.cost_usd is not None]
    cost = spread(told) if len(told) == len(like) else _priced(tokens, token_cost)
    return TaskEstimate(task.id, basis, len(like), spread(one.seconds for one in like), tokens, cost)


def _alike(task: Task, past: Sequence[PastTask], project_id: str) -> tuple[Basis, Sequence[PastTask]]:
    """Gives the past tasks most like this one, of the first likeness that has enough of them."""
    kind = [one for one in past if one.executor is task.executor and one.agent == task.agent]
    here = [one for one in kind if one.project_id == project_id]
    same = [one for one in here if task.command and one.command == task.command]
    for basis, found in ((Basis.SAME_WORK, same), (Basis.PROJECT, here), (Basis.ALL_PROJECTS, kind)):
        if len(found) >= LEAST_SAMPLES:
            return basis, found
    return Basis.SIZE, ()


def _by_size(task: Task, token_cost: TokenCost) -> TaskEstimate:
    command = task.executor is Executor.COMMAND
    seconds = COMMAND_SECONDS if command else AGENT_SECONDS
    if task.timeout_seconds:
        limit = task.timeout_seconds
        seconds = Spread(min(seconds.low, limit), min(seconds.middle, limit), min(seconds.high, limit))
    tokens = NOTHING if command else AGENT_TOKENS
    cost = NOTHING if command else _priced(tokens, token_cost)
    return TaskEstimate(task.id, Basis.SIZE, 0, seconds, tokens, cost)


def _priced(tokens: Spread, token_cost: TokenCost) -> Spread | None:
    costs = [token_cost(amount) for amount in (tokens.low, tokens.middle, tokens.high)]
    known = [cost for cost in costs if cost is not None]
    return Spread(*known) if len(known) == 3 else None
