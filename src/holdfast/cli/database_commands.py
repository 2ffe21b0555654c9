"""`db …`: looking after the database."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.grammar import dry_run_option, noun, yes_option
from holdfast.cli.session import Session

db = noun("db", help="The database: migrate, back up, restore, check, count.", example="holdfast db check")


@db.verb("migrate", example="holdfast db migrate")
def migrate(session: Session) -> int:
    """Bring the database to this version's schema; a backup is made first."""
    with session.house() as house:
        place = house.database.place
    if session.json:
        session.document({"migrated": True, "database": place})
    else:
        session.out.print(f"{place} has this version's schema", soft_wrap=True)
    return 0


@db.verb("backup", example="holdfast db backup before-upgrade.db")
@click.argument("file", required=False, default=None, type=click.Path(dir_okay=False, path_type=Path))
def backup(session: Session, file: Path | None) -> int:
    """Write a whole, consistent copy of the database, also while a worker runs."""
    from holdfast import clock
    from holdfast.app import database
    from holdfast.cli.render import safe

    with session.house(migrate=False) as house:
        ending = "db" if house.database.is_sqlite else "jsonl.zst"
        default = house.places.data / "backups" / f"manual-{clock.now():%Y%m%dT%H%M%SZ}.{ending}"
        target = database.back_up(house, file or default)
    if session.json:
        session.document({"backup": str(target), "bytes": target.stat().st_size})
    else:
        session.out.print(f"backed up to {safe(target)}", soft_wrap=True)
    return 0


@db.verb("restore", example="holdfast db restore before-upgrade.db --yes")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@yes_option
@dry_run_option
def restore(session: Session, file: Path, yes: bool, dry_run: bool) -> int:
    """Put a backup in the place of the database; what was there is kept aside."""
    from holdfast.app import database
    from holdfast.cli.consent import consents
    from holdfast.cli.render import safe
    from holdfast.errors import NotFound

    chosen = session.settings()
    if not file.exists():
        raise NotFound(f"there is no backup {file}", hint="those made by themselves are in the data folder's backups/")
    if dry_run:
        database.refuse_unfit(chosen, file)
    if not consents(session, f"replace the database by {safe(file)}", yes=yes, dry_run=dry_run):
        return 0
    kept = database.restore(chosen, file)
    if session.json:
        session.document({"restored": str(file), "kept": str(kept) if kept else None})
    else:
        session.out.print(f"restored from {safe(file)}", soft_wrap=True)
        if kept:
            session.note(f"what was there is kept in {kept}")
    return 0


@db.verb("check", example="holdfast db check")
def check(session: Session) -> int:
    """Look for any damage in the database and in the projects' repositories; exit code 1 if there is some."""
    from holdfast.app import database
    from holdfast.cli.render import show, table

    with session.house() as house:
        problems = database.examine(house)
    if session.json:
        session.document({"sound": not problems, "problems": problems})
    elif problems:
        show(session.out, table(["rule", "of", "problem"], [[p.rule, p.subject, p.message] for p in problems]))
    else:
        session.out.print("sound: no problem found")
    return 1 if problems else 0


@db.verb("stats", example="holdfast db stats")
def stats(session: Session) -> int:
    """Count what is stored."""
    from holdfast.app import database
    from holdfast.cli.render import show, size, table

    with session.house() as house:
        found = database.stats(house)
    if session.json:
        session.document(found)
        return 0
    rows = [[name, f"{number:,}"] for name, number in found.rows.items()]
    show(session.out, table(["table", "rows"], [*rows, ["size", size(found.total_bytes)]], right=("rows",)))
    return 0
