"""Taking away what nobody needs any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from holdfast import clock
from holdfast.app.wire import House
from holdfast.domain.plan import Project
from holdfast.engine.retention import Sweep, Tally
from holdfast.store import projects

KINDS = ("plans", "checkpoints", "refs", "objects", "blobs", "worktrees", "homes", "runs")


@dataclass(frozen=True, slots=True)
class Freed:
    """What was taken away of one kind: how many, and their bytes on the disk."""

    kind: str
    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a call took away, or with `dry_run` what it would; and what it left alone, each with its reason.

    The bytes of git's objects are known only when it is done.
    """

    before: datetime
    dry_run: bool
    freed: tuple[Freed, ...]
    skipped: tuple[str, ...]


def gc(
    house: House, *, before: datetime | None = None, project: Project | None = None, dry_run: bool = False
) -> Report:
    """Takes away what nobody needs any more and was so before `before` (default: `keep_days` ago).

    Kept is what a head, an active step, a fork, a name, an operation that may still be finished or undone, or a plan
    that runs needs. Plans that were deleted before then go from the trash. A project that another process has open is
    left alone; so are then the blobs, which all share.
    """
    house.let_go()
    since = before or clock.now() - timedelta(days=house.settings.keep_days)
    sweep = Sweep(house, since, house.actor, dry_run, Tally())
    for each in (project,) if project is not None else _projects(house):
        sweep.project(each)
    sweep.blobs()
    tally = sweep.tally
    freed = tuple(Freed(kind, tally.counts[kind], tally.sizes[kind]) for kind in KINDS)
    return Report(since, dry_run, freed, tuple(tally.skipped))


def _projects(house: House) -> tuple[Project, ...]:
    with house.database.read() as connection:
        found = projects.list_(connection, limit=1000).items
    return tuple(each for each in reversed(found) if each.home == house.places.home)
