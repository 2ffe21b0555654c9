"""Turns any view into plain JSON values: keys are the field names, times ISO 8601 in UTC, states their words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import cast

Plain = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None


def plain(value: object) -> Plain:
    """Gives `value` (a dataclass, mapping, sequence or scalar, nested) as values that `json` writes."""
    match value:
        case Enum():
            return str(value.value)
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat()
        case Mapping():
            items = cast("Mapping[object, object]", value)
            return {str(key): plain(item) for key, item in items.items()}
        case list() | tuple() | set() | frozenset():
            items = cast("list[object]", value)
            return [plain(item) for item in items]
        case _ if is_dataclass(value):
            return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
        case _:
            return str(value)
