"""The prices in force: those that ship with Holdfast, with the user's own in place of them."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path

from holdfast.domain import prices
from holdfast.domain.prices import PriceTable
from holdfast.errors import UsageError
from holdfast.settings import Settings


def price_table(settings: Settings) -> PriceTable:
    """Gives the shipped prices and, where the file that `HOLDFAST_PRICES` names exists, its prices before them."""
    return _table(settings.prices)


@lru_cache(maxsize=4)
def _table(own: Path) -> PriceTable:
    shipped = prices.read(resources.files("holdfast").joinpath("prices.toml").read_text("utf-8"), source="prices.toml")
    try:
        text = own.read_text("utf-8")
    except FileNotFoundError:
        return shipped
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the price file {own} cannot be read: {error}", hint="correct it, or name another with HOLDFAST_PRICES"
        ) from error
    return shipped.with_overrides(prices.read(text, source=str(own)))
