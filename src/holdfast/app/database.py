"""Looking after the database."""

from __future__ import annotations

from pathlib import Path

from holdfast.app.wire import House
from holdfast.engine.places import open_places
from holdfast.settings import Settings
from holdfast.store import Problem, Stats, backup, check
from holdfast.vcs import Vault


def back_up(house: House, target: Path) -> Path:
    """Writes a whole, consistent copy of the database to `target`, also while a worker runs; durable on return."""
    return backup.backup(house.database, target)


def restore(chosen: Settings, source: Path) -> Path | None:
    """Puts a backup in the place of the database; gives where the old one was kept. Refuses while a worker runs."""
    return backup.restore(chosen.database_url, source, data=open_places(chosen.data).data)


def refuse_unfit(chosen: Settings, source: Path) -> None:
    """Raises what keeps a backup from being restored; nothing is changed."""
    backup.refuse_unfit(chosen.database_url, source)


def examine(house: House) -> tuple[Problem, ...]:
    """Gives every problem found in the database and in the projects' vaults; empty = sound."""
    found = list(check.check(house.database))
    with house.database.read() as connection:
        wanted = check.refs(connection, home=house.places.home)
    for project_id, needed in wanted.items():
        name = house.places.vault(project_id)
        if not (name / "HEAD").exists():
            found.append(Problem("vault", str(name), f"is gone, with {len(needed)} checkpoints and branches"))
            continue
        with Vault.open(name) as vault:
            found += [Problem("vault", str(name), line) for line in vault.fsck()]
            kept = vault.refs("refs")
        found += [Problem("vault", whose, f"its {ref} is gone from {name}") for whose, ref in needed if ref not in kept]
    return tuple(found)


def stats(house: House) -> Stats:
    """Gives counts and sizes."""
    return check.stats(house.database)
