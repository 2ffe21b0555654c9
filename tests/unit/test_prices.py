"""Prices: found by the model's family and the day, or not at all."""

from __future__ import annotations

from datetime import date
from importlib import resources

import pytest

from holdfast.domain.conversation import TokenUsage
from holdfast.domain.prices import cost, cost_of, cost_of_total, family, read
from holdfast.errors import UsageError

TODAY = date(2026, 11, 1)
TABLE = read(
    """
price = [
  { model = "thinker-2", input = 2.0, cached = 0.5, output = 10.0 },
  { model = "thinker-2", since = 2026-06-01, input = 1.0, output = 5.0 },
  { model = "later", since = 2027-01-01, input = 1, output = 1 },
]
""",
    source="test",
)


def test_a_price_is_that_of_its_day() -> None:
    assert [TABLE.find("thinker-2", day).input for day in (date(2026, 5, 31), date(2026, 6, 1), TODAY)] == [2, 1, 1]  # type: ignore[union-attr]
    assert TABLE.find("later", TODAY) is None


@pytest.mark.parametrize(
    "name", ["thinker-2", "maker:thinker-2", "maker/thinker-2", "Thinker-2-20260601", "thinker-2@20260601",
             "thinker-2-2026-06-01", "thinker-2-latest"],
)  # fmt: skip
def test_a_model_is_known_by_its_family(name: str) -> None:
    assert TABLE.find(name, TODAY) is not None


@pytest.mark.parametrize("name", ["thinker", "thinker-2-mini", "thinker-20", "", "unknown"])
def test_an_unknown_model_has_no_price(name: str) -> None:
    assert TABLE.find(name, TODAY) is None
    assert cost_of(TABLE, name, TokenUsage(1000, 1000), TODAY) is None


def test_versions_of_claude_are_known_with_dots_too() -> None:
    assert family("anthropic/claude-opus-4.5") == family("claude-opus-4-5-20251101") == "claude-opus-4-5"


def test_each_kind_of_token_has_its_price() -> None:
    price = TABLE.find("thinker-2", date(2026, 1, 1))
    assert price is not None
    assert cost(price, TokenUsage(1_000_000, 1_000_000, 1_000_000, 1_000_000)) == 2 + 10 + 0.5 + 10
    assert cost_of_total(price, 1_000_000) == pytest.approx(0.15 * 2 + 0.8 * 0.5 + 0.05 * 10)


def test_what_the_agent_tells_of_its_cost_wins() -> None:
    assert cost_of(TABLE, "thinker-2", TokenUsage(10**6, cost_usd=0.5), TODAY) == 0.5
    assert cost_of(TABLE, "thinker-2", TokenUsage(10**6), TODAY) == 1.0


def test_own_prices_take_the_place_of_those_of_the_same_model() -> None:
    own = read('price = [{ model = "thinker-2", input = 0, output = 0 }]', source="own")
    both = TABLE.with_overrides(own)
    assert both.find("thinker-2", date(2026, 1, 1)).input == 0  # type: ignore[union-attr]
    assert both.find("later", date(2027, 1, 1)) is not None


@pytest.mark.parametrize(
    "text",
    [
        "price = 7",
        "prices = []",
        "no toml",
        'price = ["x"]',
        'price = [{ model = "", input = 1, output = 1 }]',
        'price = [{ model = "m", input = 1 }]',
        'price = [{ model = "m", input = -1, output = 1 }]',
        'price = [{ model = "m", input = nan, output = 1 }]',
        'price = [{ model = "m", input = true, output = 1 }]',
        'price = [{ model = "m", input = "1", output = 1 }]',
        'price = [{ model = "m", input = 1, output = 1, since = "today" }]',
        'price = [{ model = "m", input = 1, output = 1, cheap = 1 }]',
    ],
)
def test_what_is_no_price_table_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text, source="own.toml")
    assert "own.toml" in caught.value.message
    assert caught.value.code == "prices"


def test_the_shipped_prices_can_be_read_and_have_days_in_order() -> None:
    shipped = read(resources.files("holdfast").joinpath("prices.toml").read_text("utf-8"), source="prices.toml")
    assert len(shipped.prices) > 50
    for prices in shipped.prices.values():
        days = [each.since or date.min for each in prices]
        assert days == sorted(set(days)), prices[0].model
        assert all(0 <= each.cached <= each.input <= each.output for each in prices), prices[0].model
