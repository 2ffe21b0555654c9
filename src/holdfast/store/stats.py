"""Sums over plans, tasks and steps, made by the database: whatever their number, a few rows come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    Select,
    and_,
    case,
    cast,
    extract,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    type_coerce,
)

from holdfast.domain.stats import Durations, Kind, StepCounts, Tally, UsageSums
from holdfast.store.paging import AnyRow
from holdfast.store.tables import plans, steps, tasks

Place = tuple[ColumnElement[bool], ...]
Statuses = dict[str, dict[str, int]]
_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "thought_tokens")


def plan_statuses(connection: Connection, *, project_id: str | None = None, plan_id: str | None = None) -> Statuses:
    """Gives how many plans have which status, by project."""
    where = _where({plans.c.project_id: project_id, plans.c.id: plan_id})
    query = select(plans.c.project_id, plans.c.status, func.count()).where(*where)
    return _by_project(connection, query.group_by(plans.c.project_id, plans.c.status))


def task_statuses(connection: Connection, *, project_id: str | None = None, plan_id: str | None = None) -> Statuses:
    """Gives how many tasks have which status, by project."""
    where = _where({plans.c.project_id: project_id, plans.c.id: plan_id})
    query = select(plans.c.project_id, tasks.c.status, func.count()).join(plans, plans.c.id == tasks.c.plan_id)
    return _by_project(connection, query.where(*where).group_by(plans.c.project_id, tasks.c.status))


def tallies(connection: Connection, *, project_id: str | None = None, plan_id: str | None = None) -> dict[Kind, Tally]:
    """Gives what each kind of steps came to."""
    where = _where({steps.c.project_id: project_id, steps.c.plan_id: plan_id})
    kind = (steps.c.project_id, _told(connection, "agent"), _told(connection, "model"))
    counted = select(*kind, *_counts()).where(*where).group_by(*kind)
    counts = {_kind(row): StepCounts(*row[3:]) for row in connection.execute(counted)}
    launch = _launches(connection)
    summed = select(*kind, *_sums(connection, launch.c.value)).select_from(steps.join(launch, true()))
    used = {
        _kind(row): UsageSums(*(value or 0 for value in row[3:]))
        for row in connection.execute(summed.where(*where).group_by(*kind))
    }
    return {each: Tally(counts[each], used.get(each, UsageSums())) for each in counts}


def _kind(row: AnyRow) -> Kind:
    return Kind(row[0], row[1], row[2])


def durations(
    connection: Connection, *by: str, project_id: str | None = None, plan_id: str | None = None
) -> dict[tuple[str, ...], Durations]:
    """Gives how long steps took that ended on their own, by `project_id`, `agent`, `model`, or all together."""
    where = _where({steps.c.project_id: project_id, steps.c.plan_id: plan_id})
    named = {"project_id": steps.c.project_id}
    keys = [named[name] if name in named else _told(connection, name) for name in by]
    taken = _seconds(connection).label("seconds")
    columns = [key.label(name) for key, name in zip(keys, by, strict=True)]
    # The one of which so many hundredths are not longer: the same on both databases.
    rank = func.row_number().over(partition_by=keys or None, order_by=taken).label("rank")
    total = func.count().over(partition_by=keys or None).label("total")
    ranked = select(*columns, taken, rank, total).where(*where, _ENDED, ~steps.c.interrupted).subquery()
    groups = [ranked.c[name] for name in by]
    query = select(
        *groups,
        func.sum(ranked.c.seconds),
        *(_at(ranked.c, (share * ranked.c.total + 9) // 10) for share in (5, 9)),
    )
    found = connection.execute(query.group_by(*groups) if groups else query)
    return {tuple(row[: len(by)]): Durations(*row[len(by) :]) for row in found if row[-1] is not None}


def _at(ranked: Any, place: ColumnElement[int]) -> ColumnElement[Any]:
    return func.max(case((ranked.rank == place, ranked.seconds)))


_ENDED = and_(steps.c.ended_at.is_not(None), or_(steps.c.exit_code.is_not(None), steps.c.failure.is_not(None)))


def _counts() -> list[ColumnElement[int]]:
    """Gives the columns of `StepCounts`, in its order; the states are those of `domain.step.state`."""
    kept = and_(steps.c.active, ~steps.c.interrupted)
    conditions = {
        "steps": true(),
        "running": and_(kept, steps.c.ended_at.is_(None)),
        "completed": and_(kept, steps.c.ended_at.is_not(None), steps.c.exit_code == 0),
        "failed": and_(kept, steps.c.ended_at.is_not(None), func.coalesce(steps.c.exit_code, -1) != 0),
        "interrupted": and_(steps.c.active, steps.c.interrupted),
        "rolled_back": ~steps.c.active,
        "retries": steps.c.attempt > 1,
        "succeeded": and_(_ENDED, ~steps.c.interrupted, steps.c.exit_code == 0),
        "ended": and_(_ENDED, ~steps.c.interrupted),
    }
    counted: dict[str, ColumnElement[Any]] = {
        name: func.count().filter(condition) for name, condition in conditions.items()
    }
    counted["restarts"] = func.sum(steps.c.restarts)
    return [cast(counted[each.name], BigInteger) for each in fields(StepCounts)]


def _sums(connection: Connection, told: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """Gives the columns of `UsageSums`, in its order, from what launches told."""
    number = {name: _number(connection, told, name) for name in (*_TOKENS, "cost_usd")}
    cost = number["cost_usd"]
    # `estimated` is only there where it is true.
    estimated = _text_of(connection, told, "estimated").is_not(None)
    used = sum((func.coalesce(number[name], 0) for name in _TOKENS), literal(0))
    return [
        *(cast(func.sum(number[name]), BigInteger) for name in _TOKENS),
        func.sum(cost),
        func.count().filter(cost.is_not(None)),
        func.count().filter(estimated),
        func.count().filter(and_(cost.is_(None), used > 0)),
    ]


# -- the two databases -----------------------------------------------------------------------------------------------


def _text_of(connection: Connection, document: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """Gives a value of a JSON object as text, NULL where it is not there or null."""
    # As literals: to PostgreSQL two parameters are two things, also where it groups by what it selects.
    if connection.dialect.name == "sqlite":
        return func.json_extract(document, literal_column(f"'$.{name}'"))
    return func.jsonb_extract_path_text(document, literal_column(f"'{name}'"))


def _number(connection: Connection, document: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    return cast(_text_of(connection, document, name), Float)


def _told(connection: Connection, name: str) -> ColumnElement[str]:
    """Gives what a step keeps of its agent, empty where it keeps nothing."""
    return func.coalesce(_text_of(connection, steps.c.agent_config, name), literal_column("''"))


def _launches(connection: Connection) -> Any:
    """Gives what each launch of a step has told that it used, a row each."""
    if connection.dialect.name == "sqlite":
        return func.json_each(steps.c.details, literal_column("'$.usage'")).table_valued("key", "value")
    usage = func.jsonb_extract_path(steps.c.details, literal_column("'usage'"))
    return func.jsonb_each(usage).table_valued("key", "value")


def _seconds(connection: Connection) -> ColumnElement[Any]:
    if connection.dialect.name == "sqlite":
        wall = (type_coerce(steps.c.ended_at, BigInteger) - type_coerce(steps.c.started_at, BigInteger)) / 1e6
    else:
        wall = cast(extract("epoch", steps.c.ended_at - steps.c.started_at), Float)
    return wall - steps.c.idle_seconds


def _where(wanted: Mapping[Any, str | None]) -> Place:
    return tuple(column == value for column, value in wanted.items() if value is not None)


def _by_project(connection: Connection, query: Select[Any, Any, int]) -> Statuses:
    found: Statuses = {}
    for project_id, status, number in connection.execute(query):
        found.setdefault(project_id, {})[str(status)] = number
    return found
