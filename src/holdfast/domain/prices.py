"""What models cost: a table of dated prices, and the cost of tokens by it. An unknown model has no cost, never a guess.

Prices are in US dollars per million tokens. The table is TOML: `price = [{ model, input, cached, output, since }, …]`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, cast

from holdfast.domain.conversation import TokenUsage
from holdfast.errors import UsageError

PER = 1_000_000
# The shares of an agent's tokens, where only their number is known: it reads the same conversation again each turn.
MIX = TokenUsage(input_tokens=15, cached_tokens=80, output_tokens=5)
_DATED = re.compile(r"(?:-latest|[-@]\d{8}|[-@]\d{4}-\d{2}-\d{2})$")
_KEYS = frozenset({"model", "since", "input", "cached", "output"})


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs from the day `since` on (None: always), in US dollars per million tokens.

    `input` is for tokens that were not in a cache, `cached` for those that were, `output` for answers and thoughts.
    """

    model: str
    input: float
    output: float
    cached: float
    since: date | None = None


@dataclass(frozen=True, slots=True)
class PriceTable:
    """The known prices by the model's family, each list in the order of its days."""

    prices: Mapping[str, tuple[Price, ...]]

    def find(self, model: str, day: date) -> Price | None:
        """Gives the price of a model on a day, None if it is not known."""
        known = self.prices.get(family(model), ())
        return next((each for each in reversed(known) if each.since is None or each.since <= day), None)

    def with_overrides(self, other: PriceTable) -> PriceTable:
        """Gives this table with all prices of the models that `other` knows taken from there."""
        return PriceTable({**self.prices, **other.prices})


def family(model: str) -> str:
    """Gives the name that prices go by: without the provider, the day of a release or `-latest`, in lower case."""
    name = model.strip().lower().rpartition("/")[2].rpartition(":")[2]
    # Anthropic writes versions with hyphens, many agents with dots.
    if name.startswith("claude"):
        name = name.replace(".", "-")
    return _DATED.sub("", name)


def cost(price: Price, usage: TokenUsage) -> float:
    """Gives the US dollars that these tokens cost."""
    output = usage.output_tokens + usage.thought_tokens
    return (usage.input_tokens * price.input + usage.cached_tokens * price.cached + output * price.output) / PER


def cost_of_total(price: Price, tokens: float) -> float:
    """Gives the US dollars of a number of tokens, mixed as an agent's usually are (`MIX`)."""
    return cost(price, MIX) * tokens / MIX.total_tokens


def cost_of(table: PriceTable, model: str, usage: TokenUsage, day: date) -> float | None:
    """Gives what the agent itself told of the cost, else what the table makes of it, else None: not known."""
    if usage.cost_usd is not None:
        return usage.cost_usd
    price = table.find(model, day)
    return None if price is None else cost(price, usage)


def read(text: str, *, source: str) -> PriceTable:
    """Gives the table that a TOML text says; raises `UsageError` that names the entry that cannot be one."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is no TOML: {error}", hint=_HINT, code="prices") from error
    entries = document.get("price")
    if set(document) != {"price"} or not isinstance(entries, list):
        raise UsageError(f"{source} has to hold one list named `price`", hint=_HINT, code="prices")
    listed = cast("list[object]", entries)
    return _table(_price(entry, f"{source}, price {number}") for number, entry in enumerate(listed, 1))


_HINT = 'e.g. price = [{ model = "my-model", input = 1.0, cached = 0.1, output = 5.0 }]'


def _price(entry: object, place: str) -> Price:
    values = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    model, since = values.get("model"), values.get("since")
    amounts = {key: values[key] for key in ("input", "cached", "output") if key in values}
    sound = (
        set(values) <= _KEYS
        and isinstance(model, str)
        and model.strip()
        and (since is None or type(since) is date)
        and {"input", "output"} <= set(amounts)
        and all(type(each) in (int, float) and 0 <= each < PER for each in amounts.values())
    )
    if not sound:
        raise UsageError(f"{place} is not a price: {entry}", hint=_HINT, code="prices")
    price = Price(str(model), float(amounts["input"]), float(amounts["output"]), 0.0, since)
    return replace(price, cached=float(amounts.get("cached", amounts["input"])))


def _table(prices: Iterable[Price]) -> PriceTable:
    found: dict[str, list[Price]] = {}
    for price in prices:
        found.setdefault(family(price.model), []).append(price)
    ordered = {name: tuple(sorted(each, key=lambda one: one.since or date.min)) for name, each in found.items()}
    return PriceTable(ordered)
