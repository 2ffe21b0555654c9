"""Backups: made while workers run, whole or absent, and restored without losing what was there before.

SQLite: the whole file by SQLite's own backup API. PostgreSQL: a dump of all our tables as JSON lines (`dump`).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from holdfast import clock
from holdfast.errors import Corruption, HoldfastError, IllegalState, UsageError
from holdfast.failpoints import failpoint
from holdfast.settings import settings
from holdfast.store import dump
from holdfast.store.database import Database
from holdfast.store.faults import translated
from holdfast.store.files import flush, put_in_place, told
from holdfast.store.locks import worker_lock
from holdfast.store.migrate import HEAD

_SQLITE_MAGIC = b"SQLite format 3\x00"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def backup(database: Database, target: Path) -> Path:
    """Writes a backup of the database as it is at one moment, durable when this returns; workers may run.

    Raises `UsageError` if `target` exists, and `InfraError`; then there is no file at `target`.
    """
    if target.exists():
        raise UsageError(f"{target} exists already", hint="name another file")
    temporary = target.with_name(f".{target.name}.part")
    with told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        try:
            if database.path is not None:
                _copy_pages(database.path, temporary)
            else:
                dump.write(database, temporary)
            failpoint("store.backup.before_flush")
            flush(temporary)
            failpoint("store.backup.before_rename")
            put_in_place(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return target


def automatic(database: Database, reason: str) -> Path:
    """Writes a backup into the data folder and removes the oldest ones beyond `HOLDFAST_BACKUPS_KEPT`."""
    folder = database.data / "backups"
    ending = "db" if database.is_sqlite else "jsonl.zst"
    target = backup(database, folder / f"holdfast-{clock.now():%Y%m%dT%H%M%S.%fZ}-{reason}.{ending}")
    made = sorted(folder.glob(f"holdfast-*.{ending}"))
    for old in made[: -settings().backups_kept]:
        old.unlink(missing_ok=True)
    return target


def on_start(database: Database) -> Path | None:
    """Writes a backup if `HOLDFAST_BACKUP_ON_START` asks for one."""
    return automatic(database, "start") if settings().backup_on_start else None


def restore(url: str, source: Path, *, data: Path) -> Path | None:
    """Puts a backup in the place of the database's content; gives the file that keeps what was there before.

    Raises `Unavailable` while a worker runs, `Corruption` for a damaged backup and `IllegalState` for one of a newer
    Holdfast. A kill leaves the old content or the new one.
    """
    if refuse_unfit(url, source):
        return _restore_pages(url, source, data)
    return _restore_dump(url, source, data)


def refuse_unfit(url: str, source: Path) -> bool:
    """Reads a whole backup and raises what keeps it from being restored; tells whether it is a SQLite file."""
    if not source.is_file():
        raise UsageError(f"there is no backup {source}", hint="name an existing file; automatic ones are in backups/")
    with told(source), source.open("rb") as file:
        begin = file.read(16)
    if begin == _SQLITE_MAGIC:
        if not url.startswith("sqlite"):
            raise UsageError(f"{source} is a SQLite backup", hint="PostgreSQL takes a dump that it made itself")
        _refuse_unfit(source)
        return True
    if not begin.startswith(_ZSTD_MAGIC):
        raise UsageError(f"{source} is not a backup of Holdfast's", hint="name a file of holdfast db backup")
    dump.read_through(source)
    return False


def _restore_pages(url: str, source: Path, data: Path) -> Path | None:
    try:
        database = Database.open(url, data=data, migrate=False)
    except Corruption:
        return _replace_damaged(url, source, data)
    with closing(database), worker_lock(database, "restore"):
        aside = automatic(database, "before-restore")
        failpoint("store.restore.before_copy")
        assert database.path is not None
        with translated(database.place):
            _copy_pages(source, database.path, final=False)
        failpoint("store.restore.after_copy")
    return aside


def _replace_damaged(url: str, source: Path, data: Path) -> Path:
    """Moves a file that SQLite cannot read aside, with its log, and restores into a new one."""
    path = Path(url.partition(":///")[2]).absolute()
    mark = f"damaged-{clock.now():%Y%m%dT%H%M%SZ}"
    aside = path.with_name(f"{path.name}.{mark}")
    with told(path):
        for suffix in ("-wal", "-shm", ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(path.with_name(f"{path.name}.{mark}{suffix}"))
    _restore_pages(url, source, data)
    return aside


def _restore_dump(url: str, source: Path, data: Path) -> Path | None:
    database = Database.open(url, data=data)
    with closing(database):
        if database.is_sqlite:
            with worker_lock(database, "restore"):
                aside = automatic(database, "before-restore")
                dump.load(database, source)
        else:
            dump.refuse_running(database)
            aside = automatic(database, "before-restore")
            dump.load(database, source)
    return aside


def _copy_pages(source: Path, target: Path, *, final: bool = True) -> None:
    """Copies a whole SQLite file in one step; `final` leaves it as one file that needs no log beside it."""
    with (
        translated(f"the database {source}"),
        closing(sqlite3.connect(f"file:{_quoted(source)}?mode=ro", uri=True, timeout=30)) as origin,
        closing(sqlite3.connect(target, timeout=30, isolation_level=None)) as copy,
    ):
        copy.execute("PRAGMA synchronous=FULL").fetchall()
        origin.backup(copy, pages=-1)
        if final:
            copy.execute("PRAGMA journal_mode=DELETE").fetchall()


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _refuse_unfit(source: Path) -> None:
    try:
        with (
            translated(f"the backup {source}"),
            closing(sqlite3.connect(f"file:{_quoted(source)}?mode=ro", uri=True)) as connection,
        ):
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            known = connection.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0] if known else None
    except HoldfastError as error:
        raise Corruption(f"the backup {source} is damaged: {error.message}", hint="use another one") from error
    if verdict != "ok":
        raise Corruption(f"the backup {source} is damaged: {verdict}", hint="use another one")
    if revision is None:
        raise UsageError(
            f"{source} is a SQLite file, but not a backup of Holdfast's", hint="name a file of holdfast db backup"
        )
    if revision > HEAD:
        raise IllegalState(
            f"the backup {source} was made by a newer Holdfast (schema {revision}, this one knows {HEAD})",
            hint="upgrade Holdfast",
            code="newer_schema",
        )
