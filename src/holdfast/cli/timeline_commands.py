"""`timeline`: what happened, when, by whom."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.grammar import page_options, verb
from holdfast.cli.session import Session, as_json, print_line

if TYPE_CHECKING:
    from holdfast.app.wire import House
    from holdfast.cli.events import Names
    from holdfast.domain.history import Event

TYPES = ("plan", "phase", "task", "step", "checkpoint", "chat", "file", "approval", "worker", "system")
FOLLOW_SECONDS = 0.2
_AGO = re.compile(r"(\d+)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType):
    """`2026-03-01`, `2026-03-01T12:30`, `14:05` (today) or `2h` (ago); local time unless it names a zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        from holdfast import clock

        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        if match := _AGO.fullmatch(text):
            try:
                return clock.now() - timedelta(**{_UNITS[match[2]]: int(match[1])})
            except OverflowError:
                self.fail(f"{text!r} is too long ago", param, ctx)
        if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", text):
            text = f"{clock.now().astimezone():%Y-%m-%d}T{text.zfill(5)}"
        try:
            return datetime.fromisoformat(text).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is not a time, e.g. 2026-03-01T12:30, 14:05 or 2h (ago)", param, ctx)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events are wanted, as they were typed."""

    plan: str = ""
    task: str = ""
    phase: str = ""
    type: str | None = None
    subtype: str | None = None
    actor: str | None = None
    project: str = ""


@verb(
    "timeline",
    example="""
    holdfast timeline --plan P3 --type step
    holdfast timeline --from 2h --actor alice
    holdfast timeline --follow --json
    """,
)
@click.option("--project", default="", metavar="SLUG", help="Only events of this project.")
@click.option("--plan", default="", metavar="PLAN", help="Only events of this plan.")
@click.option("--task", default="", metavar="TASK", help="Only events of this task.")
@click.option("--phase", default="", metavar="TITLE", help="Only events of this phase (wants --plan).")
@click.option("--type", "type_", type=click.Choice(TYPES), default=None, help="Only events of this type.")
@click.option("--subtype", default=None, metavar="WORD", help="Only events of this subtype, e.g. completed.")
@click.option("--actor", default=None, metavar="NAME", help="Only what this person or worker did.")
@click.option("--from", "since", type=Moment(), default=None, metavar="TIME", help="From this time on, e.g. 2h (ago).")
@click.option("--to", "until", type=Moment(), default=None, metavar="TIME", help="Before this time.")
@click.option("-f", "--follow", is_flag=True, help="Show new events as they come, until Ctrl-C.")
@page_options(50)
def timeline(
    session: Session,
    project: str,
    plan: str,
    task: str,
    phase: str,
    type_: str | None,
    subtype: str | None,
    actor: str | None,
    since: datetime | None,
    until: datetime | None,
    follow: bool,
    limit: int,
    cursor: str,
) -> int:
    """Show what happened, when, and by whom; newest first."""
    filters = Filters(plan, task, phase, type_, subtype, actor, project)
    if follow and (since or until or cursor):
        raise click.UsageError("--follow shows what is new: it goes without --from, --to and --cursor")
    with session.house() as house:
        if follow:
            return _follow(session, house, filters)
        return show_page(session, house, filters, since=since, until=until, limit=limit, cursor=cursor)


def show_page(
    session: Session,
    house: House,
    filters: Filters,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
    cursor: str,
) -> int:
    """Prints one page of the timeline."""
    from holdfast.app import history
    from holdfast.cli.render import say

    page = history.timeline(house, **_wanted(house, filters), since=since, until=until, limit=limit, cursor=cursor)
    if session.json:
        session.document(page)
        return 0
    names: dict[str, Names] = {}
    for event in page.items:
        _print(session, house, event, names)
    if page.items:
        session.more(page.next_cursor)
    else:
        say(session.out, "nothing happened")
    return 0


def _follow(session: Session, house: House, filters: Filters) -> int:
    from holdfast.app import history

    wanted = _wanted(house, filters)
    seen = history.last_event(house)
    names: dict[str, Names] = {}
    try:
        while True:
            for event in history.after(house, seen, **wanted):
                seen = event.id
                if session.json:
                    print_line(as_json(event))
                else:
                    _print(session, house, event, names)
            time.sleep(FOLLOW_SECONDS)
    except KeyboardInterrupt:
        return 0


def _wanted(house: House, filters: Filters) -> dict[str, Any]:
    """Gives the filters with the ids of what they name."""
    from holdfast.app import plans, projects, tasks
    from holdfast.domain.history import EventType
    from holdfast.errors import NotFound

    plan_id = plans.find(house, filters.plan) if filters.plan else None
    phase_id = None
    if filters.phase:
        if plan_id is None:
            raise click.UsageError("--phase wants --plan")
        phases = plans.show(house, plan_id).phases
        phase_id = next((each.id for each in phases if each.title.lower() == filters.phase.lower()), None)
        if phase_id is None:
            titles = ", ".join(each.title for each in phases)
            raise NotFound(f"the plan has no phase {filters.phase!r}", hint=f"its phases: {titles}")
    return {
        "project_id": projects.find(house, filters.project, Path.cwd()).id if filters.project else None,
        "plan_id": plan_id,
        "phase_id": phase_id,
        "task_id": tasks.find(house, filters.task, plan_id=plan_id) if filters.task else None,
        "type": EventType(filters.type) if filters.type else None,
        "subtype": filters.subtype,
        "actor": filters.actor,
    }


def _print(session: Session, house: House, event: Event, names: dict[str, Names]) -> None:
    from holdfast.cli.events import line, names_for

    session.out.print(line(event, names_for(house, event, names), actor=True, plan=True), soft_wrap=True)
