"""Asks before what cannot be taken back."""

from __future__ import annotations

import click

from holdfast.cli.session import Session
from holdfast.errors import UsageError


def consents(session: Session, deed: str, *, yes: bool, dry_run: bool) -> bool:
    """Tells whether `deed` ("cancel P3 ...") may be done.

    With `--dry-run` it says what would be done and gives False. Off a terminal it wants `--yes` and raises
    `UsageError` without it.
    """
    if dry_run:
        if session.json:
            session.document({"dry_run": True, "would": deed})
        else:
            session.out.print(f"would {deed}", soft_wrap=True)
        return False
    if yes:
        return True
    if not session.interactive:
        raise UsageError(f"this would {deed}", hint="say --yes to do it, --dry-run to look only", code="needs_yes")
    if click.confirm(f"This will {deed}. Go on?", err=True):
        return True
    session.note("nothing was done")
    return False
