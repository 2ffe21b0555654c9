from __future__ import annotations

import pytest

from holdfast.domain.budget import Budget, Usage, blind, reached


def test_no_limit_is_never_reached() -> None:
    assert reached(Budget(), Usage(1e12, 10**12, 1e12)) == ""


@pytest.mark.parametrize(
    ("budget", "below", "at", "name"),
    [
        (Budget(max_seconds=10), Usage(seconds=9.99), Usage(seconds=10), "max_seconds"),
        (Budget(max_tokens=100), Usage(tokens=99), Usage(tokens=100), "max_tokens"),
        (Budget(max_cost_usd=2.5), Usage(cost_usd=2.49), Usage(cost_usd=2.5), "max_cost_usd"),
    ],
)
def test_a_limit_is_reached_when_usage_equals_it(budget: Budget, below: Usage, at: Usage, name: str) -> None:
    assert reached(budget, below) == ""
    assert reached(budget, at).startswith(name)


def test_usage_adds_up() -> None:
    assert Usage(1, 2, 3) + Usage(10, 20, 30) == Usage(11, 22, 33)


def test_a_limit_of_cost_is_blind_only_where_a_cost_is_unknown() -> None:
    assert blind(Budget(max_tokens=1, max_seconds=1), cost_known=False) == ""
    assert blind(Budget(max_cost_usd=2.5), cost_known=True) == ""
    assert blind(Budget(max_cost_usd=2.5), cost_known=False).endswith("only max_tokens would count them")
    assert blind(Budget(max_cost_usd=2.5, max_tokens=9), cost_known=False).endswith("; max_tokens counts them")
