"""Keyset paging: pages that stay put while rows are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from sqlalchemy import Column

from holdfast.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import Row, Select

Item = TypeVar("Item")
Query: TypeAlias = "Select[*tuple[Any, ...]]"
AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"

MAX_LIMIT = 1000
# Execution options of a query whose rows are too many to be held at once.
STREAMED = {"yield_per": 500}


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some rows of a list, and the cursor of the next page (None at the end)."""

    items: tuple[Item, ...]
    next_cursor: str | None


def limited(limit: int) -> int:
    """Gives `limit` back, or raises `UsageError` if it is not between 1 and 1000."""
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"a page has 1 to {MAX_LIMIT} items, not {limit}", hint="go on with the next cursor")
    return limit


def key_number(cursor: str) -> int:
    """Reads a cursor that is a number; raises `UsageError` for anything else."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise UsageError(f"'{cursor[:40]}' is not a cursor", hint="use next_cursor of the page before")
    return int(cursor)


def before(query: Query, key: Column[Any], cursor: str | None, limit: int, *, numeric: bool = True) -> Query:
    """Narrows `query` to one page (and one row more, which tells that there is another), newest first by `key`."""
    if cursor is not None:
        query = query.where(key < (key_number(cursor) if numeric else cursor))
    return query.order_by(key.desc()).limit(limited(limit) + 1)


def page(items: Sequence[Item], limit: int, cursor_of: Callable[[Item], object]) -> Page[Item]:
    """Cuts the one row too many off and makes the cursor from the last one shown."""
    shown = tuple(items[:limit])
    return Page(shown, str(cursor_of(shown[-1])) if len(items) > limit else None)
