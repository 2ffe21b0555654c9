"""History: what happened, when, by whom (`timeline`), and the whole record of a plan (`log`)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.grammar import Function, page_options, verb
from holdfast.cli.session import Session, as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.app.wire import House
    from holdfast.cli.events import Names
    from holdfast.domain.history import Event

TYPES = ("plan", "phase", "task", "step", "checkpoint", "chat", "file", "approval", "worker", "system")
FOLLOW_SECONDS = 0.2
_AGO = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType):
    """`2026-03-01`, `2026-03-01T12:30`, `14:05` (today) or `2h` (ago); local time unless it names a zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        from holdfast import clock

        if isinstance(value, datetime):
            return value
        typed = text = str(value).strip()
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
            self.fail(f"{typed!r} is not a time, e.g. 2026-03-01T12:30, 14:05 or 2h (ago)", param, ctx)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are wanted and how they are shown, as it was typed."""

    limit: int
    cursor: str
    type: str | None
    subtype: str | None
    actor: str | None
    since: datetime | None
    until: datetime | None
    follow: bool
    format: str
    project: str = ""
    plan: str = ""
    phase: str = ""
    task: str = ""


phase_option = click.option("--phase", default="", metavar="TITLE", help="Only events of this phase of the plan.")


def history_options(function: Function) -> Function:
    """Adds the options that all commands of history share: they are fields of `Wanted`."""
    options = (
        click.option("--type", type=click.Choice(TYPES), default=None, help="Only events of this type."),
        click.option("--subtype", default=None, metavar="WORD", help="Only events of this subtype, e.g. completed."),
        click.option(
            "--actor",
            default=None,
            metavar="NAME",
            help="Only what this person did; worker, agent: what all of them did.",
        ),
        click.option(
            "--from", "since", type=Moment(), default=None, metavar="TIME", help="From this time on, e.g. 2h (ago)."
        ),
        click.option("--to", "until", type=Moment(), default=None, metavar="TIME", help="Before this time."),
        click.option(
            "-f", "--follow", is_flag=True, help="Show new events as they come (from --cursor on), until Ctrl-C."
        ),
        click.option(
            "--format", type=click.Choice(("table", "json", "jsonl")), default="table", help="How to print them."
        ),
        page_options(50),
    )
    for option in reversed(options):
        function = option(function)
    return function


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
@phase_option
@history_options
def timeline(session: Session, **typed: Any) -> int:
    """Show what happened, when, and by whom; newest first."""
    return show_history(session, Wanted(**typed))


@verb(
    "log",
    example="""
    holdfast log P3 > P3.json
    holdfast log P3 -o P3.json
    """,
)
@click.argument("plan", metavar="PLAN")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="File to write; must not exist.")
def log(session: Session, plan: str, output: Path | None) -> int:
    """Print the whole record of a plan as one JSON document: its audit trail.

    The plan, its phases, tasks, steps, checkpoints, approvals, iterations and operations, who did something, and every
    event in the order in which it became true.
    """
    from holdfast.app import history, plans

    with session.house() as house, session.writing(output) as write:
        before = "{"
        for name, rows in history.record(house, plans.find(house, plan)):
            write(f"{before}\n{as_json(name)}: ")
            _write_part(write, rows, alone=name in ("project", "plan"))
            before = ","
        write("\n}\n")
    return 0


def _write_part(write: Callable[[str], object], rows: Iterator[object], *, alone: bool) -> None:
    """Writes one thing, or a list with a line for each, as they come."""
    if alone:
        write(as_json(next(rows)))
        return
    write("[")
    for number, row in enumerate(rows):
        write(("," if number else "") + "\n" + as_json(row))
    write("]")


def show_history(session: Session, wanted: Wanted) -> int:
    """Prints one page of what happened, or with `follow` what happens from now (or from the cursor) on."""
    if wanted.follow and (wanted.since or wanted.until):
        raise click.UsageError("--follow shows what is new: it goes without --from and --to")
    # The options of a command count for more than the one that all commands share.
    session.json = wanted.format == "json" or (session.json and wanted.format != "jsonl")
    with session.house() as house:
        return _follow(session, house, wanted) if wanted.follow else _page(session, house, wanted)


def _page(session: Session, house: House, wanted: Wanted) -> int:
    from holdfast.app import history
    from holdfast.cli.render import say

    page = history.timeline(
        house,
        since=wanted.since,
        until=wanted.until,
        limit=wanted.limit,
        cursor=wanted.cursor,
        **_filters(house, wanted),
    )
    if session.json:
        session.document(page)
        return 0
    names: dict[str, Names] = {}
    for event in page.items:
        _print(session, house, wanted, event, names)
    if page.items:
        session.more(page.next_cursor)
    elif wanted.format == "table":
        say(session.out, "nothing more happened" if wanted.cursor else "nothing of that kind happened")
    return 0


def _follow(session: Session, house: House, wanted: Wanted) -> int:
    from holdfast.app import history

    filters = _filters(house, wanted)
    seen = history.start(house, wanted.cursor)
    names: dict[str, Names] = {}
    try:
        while True:
            found, seen = history.news(house, seen, **filters)
            for event in found:
                _print(session, house, wanted, event, names)
            if not found:
                time.sleep(FOLLOW_SECONDS)
    except KeyboardInterrupt:
        return 0


def _filters(house: House, wanted: Wanted) -> dict[str, Any]:
    """Gives the filters with the ids of what they name."""
    from holdfast.app import plans, projects, tasks
    from holdfast.domain.history import EventType
    from holdfast.errors import NotFound

    plan_id = plans.find(house, wanted.plan) if wanted.plan else None
    phase_id = None
    if wanted.phase:
        if plan_id is None:
            raise click.UsageError("--phase wants --plan")
        phases = plans.show(house, plan_id).phases
        phase_id = next((each.id for each in phases if each.title.lower() == wanted.phase.lower()), None)
        if phase_id is None:
            titles = ", ".join(each.title for each in phases)
            raise NotFound(f"the plan has no phase {wanted.phase!r}", hint=f"its phases: {titles}")
    return {
        "project_id": projects.find(house, wanted.project, Path.cwd()).id if wanted.project else None,
        "plan_id": plan_id,
        "phase_id": phase_id,
        "task_id": tasks.find(house, wanted.task, plan_id=plan_id) if wanted.task else None,
        "type": EventType(wanted.type) if wanted.type else None,
        "subtype": wanted.subtype,
        "actor": wanted.actor,
    }


def _print(session: Session, house: House, wanted: Wanted, event: Event, names: dict[str, Names]) -> None:
    from holdfast.cli.events import line, names_for

    if session.json or wanted.format == "jsonl":
        session.line(event)
        return
    session.out.print(line(event, names_for(house, event, names), actor=True, plan=True), soft_wrap=True)
