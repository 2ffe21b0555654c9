"""What the query modules share: rows to dataclasses, the fence, and short numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    CursorResult,
    Executable,
    Select,
    Table,
    bindparam,
    select,
    update,
)

from holdfast.domain.budget import Budget
from holdfast.errors import ClaimLost, NotFound
from holdfast.store.paging import AnyRow
from holdfast.store.tables import counters, plans, tasks

Entity = TypeVar("Entity")

_BUDGET = ("max_seconds", "max_tokens", "max_cost_usd")


@lru_cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def entity(kind: type[Entity], row: AnyRow, **given: object) -> Entity:
    """Builds a dataclass from the columns of its fields' names; a `budget` comes from its three columns."""
    columns = row._fields  # pyright: ignore[reportPrivateUsage]  # a documented name
    return kind(**(_values(_places(kind, columns), row) | given))


def entities(kind: type[Entity], result: CursorResult[Any]) -> tuple[Entity, ...]:
    """Builds one of each row; all rows are fetched at once, which costs half of one at a time."""
    places = _places(kind, tuple(result.keys()))
    return tuple(kind(**_values(places, row)) for row in result.all())


def _values(places: Places, row: AnyRow) -> dict[str, Any]:
    names, picked, budget = places
    values: dict[str, Any] = dict(zip(names, picked(row), strict=True))
    if budget is not None:
        values["budget"] = Budget(*budget(row))
    return values


Pick: TypeAlias = Callable[[AnyRow], tuple[Any, ...]]
Places: TypeAlias = tuple[tuple[str, ...], Pick, Pick | None]


@lru_cache
def _places(kind: type[Any], columns: tuple[str, ...]) -> Places:
    """Gives the columns that are fields of `kind`, how to pick them out of a row, and how those of a budget."""
    found = tuple(name for name in _names(kind) if name in columns)
    budget = itemgetter(*map(columns.index, _BUDGET)) if "budget" in _names(kind) else None
    return found, itemgetter(*map(columns.index, found)), budget


def columns_of(item: object, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Gives a dataclass's fields as column values; a `budget` becomes its three columns."""
    values: dict[str, Any] = {}
    for name in _names(type(item)):
        if name in without:
            continue
        value = getattr(item, name)
        if isinstance(value, Budget):
            values.update({part: getattr(value, part) for part in _BUDGET})
        else:
            values[name] = value
    return values


def changeable(table: Table, values: Mapping[str, object], refused: frozenset[str]) -> dict[str, Any]:
    """Gives column values back; a name that the table does not have or that has its own function is a TypeError."""
    unknown = [name for name in values if name not in table.c or name in refused]
    if unknown:
        raise TypeError(f"not a changeable column of {table.name}: {', '.join(unknown)}")
    return dict(values)


def change(
    connection: Connection,
    table: Table,
    values: Mapping[str, Any],
    was: Mapping[str, object],
    *,
    held: int | None = None,
) -> AnyRow | None:
    """Writes columns of the one row that is still as it `was`, and gives it as it is now; None if there is none such.

    With a claim that is `held`, only while it is that of the row's task, whose row is held until the transaction ends.
    """
    # With nothing to write, a write of what is there: the statement keeps its conditions.
    wanted = {f"was_{name}": value for name, value in was.items() if value is not None}
    if held is not None:
        wanted["held_claim"] = held
    statement = _change(table, tuple((name, value is None) for name, value in was.items()), held is not None)
    return connection.execute(statement, {**(values or {"id": was["id"]}), **wanted}).one_or_none()


@lru_cache
def _change(table: Table, was: tuple[tuple[str, bool], ...], fenced: bool) -> Executable:
    """Gives the statement, built once a process: building one costs more than running it."""
    statement = update(table)
    for name, null in was:
        column = table.c[name]
        statement = statement.where(column.is_(None) if null else column == bindparam(f"was_{name}"))
    if fenced:
        statement = statement.where(fence(table.c.task_id, _CLAIM).exists())
    return statement.returning(table)


_CLAIM: BindParameter[int] = bindparam("held_claim")


def one(connection: Connection, query: Any, what: str, wanted: Mapping[str, object] | None = None) -> AnyRow:
    """Gives the only row; raises `NotFound` with "no <what>" if there is none."""
    row = connection.execute(query, dict(wanted or {})).one_or_none()
    if row is None:
        raise NotFound(f"no {what}")
    return row


@lru_cache
def _by_id(table: Table) -> Select[Any]:
    return select(table).where(table.c.id == bindparam("wanted"))


def by_id(connection: Connection, table: Table, wanted: str, what: str) -> AnyRow:
    """Gives the row with that id; raises `NotFound` with "no <what>". The statement is built once a process."""
    row = connection.execute(_by_id(table), {"wanted": wanted}).one_or_none()
    if row is None:
        raise NotFound(f"no {what}")
    return row


_project_of: dict[str, str] = {}


def project_of(connection: Connection, plan_id: str) -> str:
    """Gives the id of a plan's project, which never changes, so it is asked for once a process."""
    if plan_id not in _project_of:
        _project_of[plan_id] = connection.execute(select(plans.c.project_id).where(plans.c.id == plan_id)).scalar_one()
    return _project_of[plan_id]


def next_numbers(connection: Connection, counter: str, count: int = 1) -> range:
    """Takes the next `count` short numbers; others wait for this transaction, so none is given twice or skipped."""
    taken = (
        update(counters)
        .where(counters.c.name == counter)
        .values(value=counters.c.value + count)
        .returning(counters.c.value)
    )
    last = connection.execute(taken).scalar_one()
    return range(last - count + 1, last + 1)


def fence(task_id: str | ColumnElement[str], claim: int | ColumnElement[int]) -> Select[tuple[str]]:
    """Selects the task's id only while `claim` is its claim, and holds the task's row until the transaction ends.

    It is part of the writing statement itself: a worker that was taken over writes nothing, however late it wakes up.
    """
    return select(tasks.c.id).where(tasks.c.id == task_id, tasks.c.claim == claim).with_for_update(key_share=True)


def insert_fenced(
    connection: Connection, table: Table, values: Mapping[str, Any], task_id: str | None, claim: int | None
) -> None:
    """Inserts one row; with a claim, only if it is still the task's (else `ClaimLost`)."""
    if claim is None or task_id is None:
        connection.execute(table.insert().values(**values))
        return
    statement = _fenced_insert(table, tuple(values))
    given = {f"new_{name}": value for name, value in values.items()}
    if connection.execute(statement, {**given, "held_task": task_id, "held_claim": claim}).rowcount != 1:
        raise claim_lost(connection, task_id, claim)


@lru_cache
def _fenced_insert(table: Table, names: tuple[str, ...]) -> Executable:
    held = fence(bindparam("held_task"), _CLAIM).subquery()
    source = select(*(bindparam(f"new_{name}", type_=table.c[name].type) for name in names)).select_from(held)
    return table.insert().from_select(list(names), source).execution_options(preserve_rowcount=True)


def claim_lost(connection: Connection, task_id: str, claim: int) -> ClaimLost:
    """Gives the error for a write that came after another worker's claim."""
    row = connection.execute(select(tasks.c.number, tasks.c.claim).where(tasks.c.id == task_id)).one_or_none()
    if row is None:
        return ClaimLost(f"the task {task_id} is gone")
    return ClaimLost(f"task T{row.number} was taken over (claim {row.claim}, this one is {claim})")


def prefix_range(prefix: str) -> tuple[str, str]:
    """Gives the bounds [low, high) of the ids that begin with `prefix`."""
    return prefix, prefix + "g"
