"""Column types that give the same Python values from SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import TIMESTAMP, BigInteger, Dialect, Integer, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator, TypeEngine

from holdfast.domain import permissions
from holdfast.domain.permissions import Policy

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# A 64-bit key that SQLite fills by itself: only INTEGER primary keys are its row id.
Serial = BigInteger().with_variant(Integer, "sqlite")


def storable(text: str) -> str:
    """Gives the text with what no database keeps (NUL, lone surrogates) replaced by U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    return text.encode("utf-8", "replace" if _has_surrogate(text) else "strict").decode("utf-8")


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


class Moment(TypeDecorator[datetime]):
    """A time in UTC to the microsecond: `timestamptz`, or integer microseconds since 1970 on SQLite."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[object]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(cast("TypeEngine[object]", BigInteger()))
        return dialect.type_descriptor(cast("TypeEngine[object]", TIMESTAMP(timezone=True)))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> object:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time needs its time zone")
        return (value - _EPOCH) // _MICROSECOND if dialect.name == "sqlite" else value

    def process_result_value(self, value: object, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, int):
            return _EPOCH + value * _MICROSECOND
        return cast("datetime", value).astimezone(UTC)


class Prose(TypeDecorator[str]):
    """Free text of any length; characters that a database cannot keep become U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


class Json(TypeDecorator[object]):
    """A JSON value: `jsonb`, or text on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[object]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(cast("TypeEngine[object]", Text()))
        return dialect.type_descriptor(cast("TypeEngine[object]", JSONB(none_as_null=True)))

    def process_bind_param(self, value: object, dialect: Dialect) -> object:
        if value is None:
            return None
        plain = _plain(value)
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":")) if dialect.name == "sqlite" else plain

    def process_result_value(self, value: object, dialect: Dialect) -> object:
        return json.loads(value) if dialect.name == "sqlite" and isinstance(value, str) else value


class Permissions(TypeDecorator[Policy]):
    """A permission policy, kept as it is written in plan files."""

    impl = Json
    cache_ok = True

    def process_bind_param(self, value: Policy | None, dialect: Dialect) -> object:
        return None if value is None else permissions.plain(value)

    def process_result_value(self, value: object, dialect: Dialect) -> Policy | None:
        return None if value is None else permissions.read(value)


class Names(TypeDecorator[tuple[str, ...]]):
    """A tuple of strings, kept as a JSON list."""

    impl = Json
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> object:
        return None if value is None else [str(item) for item in value]

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Gives what reads a list; most rows have the same few, so what was read is kept."""
        return _names_in if dialect.name == "sqlite" else _as_tuple


@lru_cache(maxsize=256)
def _names_in(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))


def _as_tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


class Placed(TypeDecorator[tuple[str, ...]]):
    """Ids in the order of their places, read from "place:id,place:id"."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...]:
        if not value:
            return ()
        pairs = (entry.split(":") for entry in value.split(","))
        return tuple(id for _, id in sorted((int(place), id) for place, id in pairs))


class Choice(TypeDecorator[StrEnum]):
    """One member of a closed set, kept as its text."""

    impl = String
    cache_ok = True

    def __init__(self, choices: type[StrEnum]) -> None:
        super().__init__()
        self.choices = choices

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Gives what looks a member up: rows have many of them, and a call of the class costs ten times that."""
        return {None: None, **{str(member): member for member in self.choices}}.__getitem__


class ChoiceTuple(TypeDecorator[tuple[StrEnum, ...]]):
    """A tuple of members of a closed set, kept as a JSON list."""

    impl = Json
    cache_ok = True

    def __init__(self, choices: type[StrEnum]) -> None:
        super().__init__()
        self.choices = choices

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> object:
        return None if value is None else [str(item) for item in value]

    def process_result_value(self, value: object, dialect: Dialect) -> tuple[StrEnum, ...] | None:
        return None if value is None else tuple(self.choices(item) for item in cast("list[str]", value))


def _plain(value: object) -> object:
    """Gives `value` as what JSON has: text storable, mappings as dicts, other sequences as lists, times as ISO text."""
    match value:
        case str():
            return storable(value)
        case None | bool() | int() | float():
            return value
        case datetime():
            return value.isoformat()
        case Mapping():
            items = cast("Mapping[object, object]", value)
            return {storable(str(key)): _plain(item) for key, item in items.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in cast("Sequence[object]", value)]
        case _:
            raise TypeError(f"a {type(value).__name__} cannot be stored as JSON")
