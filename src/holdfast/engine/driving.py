"""Starts the driver of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.domain.plan import Plan
from holdfast.store import Connection, plans

if TYPE_CHECKING:
    from holdfast.engine.queues import Engine


def start_driver(connection: Connection, engine: Engine, home: str, plan: Plan, **columns: object) -> Plan:
    """Starts the next driver of a plan with the caller's commit; the one before it ends at its next look."""
    started = plans.set_fields(connection, plan.id, run=plan.run + 1, **columns)
    engine.start_plan(connection, home, started.id, started.run)
    return started
