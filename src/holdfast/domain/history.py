"""Events: one row of history each, written in the transaction of the change it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventType(StrEnum):
    PLAN = "plan"
    PHASE = "phase"
    TASK = "task"
    STEP = "step"
    CHECKPOINT = "checkpoint"
    CHAT = "chat"
    FILE = "file"
    APPROVAL = "approval"
    WORKER = "worker"
    SYSTEM = "system"


# Actors that are no persons are named `<role>:<which>`.
ROLES = ("worker", "agent", "token")


@dataclass(frozen=True, slots=True)
class Event:
    """One row of history; `id` grows with time, `actor` is a person's login, `<role>:<which>` or `system`."""

    id: int
    at: datetime
    project_id: str | None
    plan_id: str | None
    phase_id: str | None
    task_id: str | None
    step_id: str | None
    type: EventType
    subtype: str
    actor: str
    data: Mapping[str, object]
