"""What people type for a plan, task or approval: a short number, an id or the beginning of one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from holdfast.errors import NotFound, UsageError
from holdfast.store.paging import AnyRow
from holdfast.store.rows import prefix_range

_PREFIX = re.compile(r"[0-9a-f][0-9a-f-]{3,35}")
_SHOWN = 8


def number_in(reference: str, letter: str) -> int | None:
    """Gives the number of "P12", "p12" or "12", else None."""
    digits = reference[1:] if reference[:1].upper() == letter else reference
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def by_prefix(connection: Connection, query: Any, column: Any, reference: str) -> Sequence[AnyRow]:
    """Gives the rows of `query` whose id begins with `reference`; none if that is no beginning of an id."""
    if not _PREFIX.fullmatch(reference.lower()):
        return ()
    low, high = prefix_range(reference.lower())
    return connection.execute(query.where(column >= low, column < high).limit(_SHOWN)).all()


def only(rows: Sequence[AnyRow], noun: str, letter: str, reference: str, hint: str) -> AnyRow:
    """Gives the one row found; raises `NotFound` for none and `UsageError` that lists them for several."""
    if not rows:
        raise NotFound(f"no {noun} '{reference}'", hint=hint)
    if len(rows) > 1:
        candidates = ", ".join(f"{letter}{row.number} ({row.id})" for row in rows)
        raise UsageError(f"'{reference}' is ambiguous: {candidates}", hint="type one of these")
    return rows[0]
