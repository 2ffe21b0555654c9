"""Measured values of plans and steps: one per name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from holdfast import clock
from holdfast.store.rows import entities
from holdfast.store.tables import metrics


@dataclass(frozen=True, slots=True)
class Metric:
    """One value, of a step or (with `step_id` None) of the plan."""

    plan_id: str
    step_id: str | None
    name: str
    value: float
    unit: str
    at: datetime


def upsert(
    connection: Connection, plan_id: str, name: str, value: float, *, unit: str = "", step_id: str | None = None
) -> None:
    """Stores a value in place of the one of that name that the plan or step had."""
    values = {"value": value, "unit": unit, "at": clock.now()}
    owner = metrics.c.step_id.is_(None) if step_id is None else metrics.c.step_id == step_id
    where = (metrics.c.plan_id == plan_id, metrics.c.name == name, owner)
    if connection.execute(update(metrics).where(*where).values(**values)).rowcount == 0:
        connection.execute(metrics.insert().values(plan_id=plan_id, step_id=step_id, name=name, **values))


def add_all(connection: Connection, plan_id: str, step_id: str, measured: Mapping[str, tuple[float, str]]) -> None:
    """Stores the values and units of a step that has just ended, by name, in one statement."""
    now = clock.now()
    rows = [
        {"plan_id": plan_id, "step_id": step_id, "name": name, "value": value, "unit": unit, "at": now}
        for name, (value, unit) in measured.items()
    ]
    connection.execute(metrics.insert(), rows)


def of_plan(connection: Connection, plan_id: str) -> tuple[Metric, ...]:
    """Gives all values of a plan and of its steps, in the order of their first writing."""
    query = select(metrics).where(metrics.c.plan_id == plan_id).order_by(metrics.c.id)
    return entities(Metric, connection.execute(query))
