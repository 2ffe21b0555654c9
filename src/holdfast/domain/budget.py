"""Limits on time, tokens and money, whether they are reached, and whether they can be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a plan or a task; None = no limit."""

    max_seconds: float | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What was spent: wall seconds of steps (idle ones not), tokens, US dollars."""

    seconds: float = 0.0
    tokens: int = 0
    cost_usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.seconds + other.seconds, self.tokens + other.tokens, self.cost_usd + other.cost_usd)


def reached(budget: Budget, usage: Usage) -> str:
    """Names the first limit that `usage` has reached, with both figures, or gives an empty string."""
    if budget.max_seconds is not None and usage.seconds >= budget.max_seconds:
        return f"max_seconds: {usage.seconds:.1f} of {budget.max_seconds:g} s used"
    if budget.max_tokens is not None and usage.tokens >= budget.max_tokens:
        return f"max_tokens: {usage.tokens} of {budget.max_tokens} used"
    if budget.max_cost_usd is not None and usage.cost_usd >= budget.max_cost_usd:
        return f"max_cost_usd: {usage.cost_usd:.2f} of {budget.max_cost_usd:.2f} USD used"
    return ""


def blind(budget: Budget, *, cost_known: bool) -> str:
    """Says that a limit of cost does not see all that was used, or gives an empty string."""
    if budget.max_cost_usd is None or cost_known:
        return ""
    rest = "max_tokens counts them" if budget.max_tokens is not None else "only max_tokens would count them"
    return f"max_cost_usd ({budget.max_cost_usd:g}) does not see tokens whose cost nobody knows; {rest}"
