"""What steps used of their agents' models: tokens by kind, and what they cost as far as that is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from holdfast.domain.budget import blind
from holdfast.domain.conversation import TokenUsage
from holdfast.domain.plan import Plan
from holdfast.domain.step import Step
from holdfast.domain.task import Task


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens by kind, and their cost in US dollars; None: not known, which is not the same as nothing.

    `estimated`: some of the cost is made of a table of prices, since the agent did not tell it. `partly`: some of the
    tokens are of agents whose cost is not known, so that the whole is more.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    thought_tokens: int = 0
    cost_usd: float | None = None
    estimated: bool = False
    partly: bool = False

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.cached_tokens + self.thought_tokens

    @property
    def cost_known(self) -> bool:
        """Whether `cost_usd` is what all these tokens cost."""
        return not self.total_tokens or (self.cost_usd is not None and not self.partly)


def spent(steps: Iterable[Step], asked: Iterable[TokenUsage] = ()) -> Spent:
    """Gives what the agents of these steps used, those of steps that were rolled back too: it was paid all the same.

    `asked` is what a supervisor used for each of its answers.
    """
    launches = [told for step in steps for told in launches_of(step).values()]
    used = [TokenUsage(**{name: each[name] for name in _FIELDS if name in each}) for each in launches] + list(asked)
    known = [each.cost_usd for each in used if each.cost_usd is not None]
    return Spent(
        sum(each.input_tokens for each in used),
        sum(each.output_tokens for each in used),
        sum(each.cached_tokens for each in used),
        sum(each.thought_tokens for each in used),
        sum(known) if known else None,
        any(each.get("estimated") for each in launches),
        bool(known) and any(each.cost_usd is None and each.total_tokens for each in used),
    )


def unseen(plan: Plan, tasks: Sequence[Task], steps: Sequence[Step], asked: Iterable[TokenUsage] = ()) -> Iterator[str]:
    """Says which limits of cost, of the plan or its tasks, do not see all that was used."""
    if told := blind(plan.budget, cost_known=spent(steps, asked).cost_known):
        yield told
    for task in tasks:
        if task.budget.max_cost_usd is not None:
            used = spent(step for step in steps if step.task_id == task.id)
            if told := blind(task.budget, cost_known=used.cost_known):
                yield f"T{task.number}: {told}"


_FIELDS = ("input_tokens", "output_tokens", "cached_tokens", "thought_tokens", "cost_usd")


def launches_of(step: Step) -> Mapping[str, Mapping[str, Any]]:
    """Gives what each launch of the step's agent has told, by its name."""
    return cast("Mapping[str, Mapping[str, Any]]", step.details.get("usage") or {})
