"""`gc`: takes away what nobody needs any more."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.consent import consents
from holdfast.cli.grammar import dry_run_option, verb, yes_option
from holdfast.cli.session import Session
from holdfast.cli.timeline_commands import Moment

if TYPE_CHECKING:
    from holdfast.app.retention import Report


@verb(
    "gc",
    example="""
    holdfast gc --dry-run
    holdfast gc --older-than 30d --yes
    """,
)
@click.option("--older-than", type=Moment(), default=None, metavar="TIME", help="How old, e.g. 30d, or before when.")
@click.option("--project", default="", metavar="SLUG", help="Only of this project.")
@yes_option
@dry_run_option
def gc(session: Session, older_than: datetime | None, project: str, yes: bool, dry_run: bool) -> int:
    """Take away what nobody needs any more, and say what that frees.

    Old checkpoints that were left behind or only looked at on the way, the worktrees, homes and run folders of plans
    that are finished, deleted plans in the trash, and what nothing refers to. Kept is what a head, an active step, a
    fork, a name or an undo needs.
    """
    from holdfast.app import projects, retention

    with session.house() as house:
        chosen = projects.find(house, project, Path.cwd()) if project else None
        if not dry_run and not consents(session, "take away what nobody needs any more", yes=yes, dry_run=False):
            return 0
        report = retention.gc(house, before=older_than, project=chosen, dry_run=dry_run)
    if session.json:
        session.document(report)
    else:
        _show(session, report)
    return 0


def _show(session: Session, report: Report) -> None:
    from holdfast.cli.render import say, show, size, table, when

    rows = [[each.kind, f"{each.count:,}" if each.count else "", size(each.bytes)] for each in report.freed]
    rows = [row for row, each in zip(rows, report.freed, strict=True) if each.count or each.bytes]
    would = "would be taken away" if report.dry_run else "taken away"
    if rows:
        total = sum(each.bytes for each in report.freed)
        show(session.out, table([would, "number", "size"], [*rows, ["", "", size(total)]], right=("number", "size")))
    else:
        say(session.out, f"nothing {would}: nothing from before {when(report.before)} is needless")
    for reason in report.skipped:
        session.note(f"left alone: {reason}")
