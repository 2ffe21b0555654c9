"""With which session of its agent a task goes on, and what that session has to be told because it does not know it.

A conversation is ours, a session is the agent's own memory of one. They agree while an agent works. Where the task's
conversation was put somewhere else since (it was rewound, forked, continued), `start` is the message it goes on from.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A session that an agent has kept and that is over: of which task it was, and the message that it ends at."""

    id: str
    task_id: str
    agent: str
    end: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a task stands as its agent is to be started.

    `head` is the message that its conversation ends at. `start` is the message it was told to go on from, None: from
    the task itself. `cut_off` is the session that the present attempt was cut off in, empty: none was.
    """

    task_id: str
    agent: str
    head: str | None = None
    start: str | None = None
    cut_off: str = ""


class Told(StrEnum):
    """What a session is told first: that it was cut off, the task, or what is to be done from `start` on."""

    CUT_OFF = "cut_off"
    TASK = "task"
    FORKED = "forked"
    TAKEN_UP = "taken_up"


@dataclass(frozen=True, slots=True)
class Beginning:
    """The session to ask an agent for. Where it gets a new one instead, `trunk` is what that must be told too.

    `trunk` is the message that the recorded conversation is told up to, None: nothing of it.
    """

    how: Literal["new", "load", "fork"]
    told: Told
    session_id: str = ""
    trunk: str | None = None


def beginning(standing: Standing, kept: KeptSession | None) -> Beginning:
    """Gives how to begin; `kept` is the session that ends exactly at `start`, if there is one.

    A session is gone on with only where it knows what the conversation has, no less and no more: the one that was cut
    off, or the first after `start` was set, by the same agent. Another task's is forked, so that it stays as it is.
    Every other session is new: the task's prompt, and the trunk up to `start`.
    """
    fresh = standing.head == standing.start
    if standing.cut_off and not fresh:
        return Beginning("load", Told.CUT_OFF, standing.cut_off, standing.start)
    if standing.start is None:
        return Beginning("new", Told.TASK)
    if kept is None or not fresh or (kept.end, kept.agent) != (standing.start, standing.agent):
        return Beginning("new", Told.TASK, trunk=standing.start)
    if kept.task_id == standing.task_id:
        return Beginning("load", Told.TAKEN_UP, kept.id, standing.start)
    return Beginning("fork", Told.FORKED, kept.id, standing.start)
