"""What a database error means: whose fault it is, and what a person can do about it."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from sqlite3 import Error as SqliteError
from typing import TYPE_CHECKING, TypeGuard

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from holdfast.errors import Corruption, HoldfastError, IllegalState, InfraError

if TYPE_CHECKING:
    import psycopg

# SQLite result codes (sqlite.org/rescode.html), the primary eight bits.
_BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 5, 6, 8, 10, 11, 13, 14, 26


# What PostgreSQL says to whom it does not let in; then there is no SQLSTATE.
_NO_MORE = re.compile("too many (clients|connections)|connection slots are reserved")


class ConstraintViolated(IllegalState):
    """Raised when the schema refused a write: a number or name used twice, a row that points nowhere, a bad value."""

    default_code = "constraint"


class Conflict(InfraError):
    """Raised when PostgreSQL undid a transaction for another's sake; running it again is right."""

    default_code = "database_conflict"


@contextmanager
def translated(place: str = "the database") -> Generator[None]:
    """Turns SQLAlchemy's and the drivers' errors inside the block into those of `holdfast.errors`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (DBAPIError, PoolTimeoutError, SqliteError)) or _is_postgres(error):
            raise meaning(error, place) from error
        raise


def _is_postgres(error: BaseException) -> TypeGuard[psycopg.Error]:
    """Tells whether psycopg raised it; a process that has not loaded psycopg (SQLite) does not load it for this."""
    driver = sys.modules.get("psycopg")
    return driver is not None and isinstance(error, driver.Error)


def meaning(error: BaseException, place: str = "the database") -> HoldfastError:
    """Gives the error of `holdfast.errors` that says what a database error means for the caller."""
    if isinstance(error, PoolTimeoutError):
        return InfraError(
            "every connection to the database is in use", hint="fewer tasks at once", code="database_busy"
        )
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    detail = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(error, IntegrityError):
        return ConstraintViolated(f"{place} refused the change: {detail}")
    if isinstance(cause, SqliteError):
        return _sqlite(cause, place, detail)
    if _is_postgres(cause):
        return _postgres(cause, place, detail)
    return InfraError(f"{place} failed: {detail}", code="database_failed")


def _sqlite(cause: SqliteError, place: str, detail: str) -> HoldfastError:
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    match code:
        case 19:
            return ConstraintViolated(f"{place} refused the change: {detail}")
        case c if c in (_CORRUPT, _NOTADB):
            problem = "is not a Holdfast database" if c == _NOTADB else "is damaged"
            return Corruption(
                f"{place} {problem}: {detail}", hint="restore a backup: holdfast db restore <file>", code="corruption"
            )
        case c if c == _FULL:
            return InfraError(
                f"no space left for {place}", hint="free some disk space, then go on: nothing is lost", code="disk_full"
            )
        case c if c in (_BUSY, _LOCKED):
            return InfraError(
                f"{place} was locked by another process for too long",
                hint="find what holds it (fuser shows it), or wait and try again",
                code="database_locked",
            )
        case c if c in (_READONLY, _CANTOPEN):
            return InfraError(
                f"{place} cannot be written: {detail}",
                hint="make its folder writable, or name another place in HOLDFAST_DB",
                code="database_readonly",
            )
        case c if c == _IOERR:
            return InfraError(
                f"reading or writing {place} failed: {detail}",
                hint="check the disk and its free space; nothing that was acknowledged is lost",
                code="database_io",
            )
        case _:
            return InfraError(f"{place} failed: {detail}", code="database_failed")


def _postgres(cause: psycopg.Error, place: str, detail: str) -> HoldfastError:
    from psycopg import OperationalError

    state = cause.sqlstate or ""
    if state.startswith("23"):
        return ConstraintViolated(f"{place} refused the change: {detail}")
    if state in ("40001", "40P01"):
        return Conflict(f"{place} undid a transaction for another's sake: {detail}", hint="try again")
    if state == "53100":
        return InfraError(f"no space left for {place}", hint="free disk space on the server", code="disk_full")
    if state.startswith("XX"):
        return Corruption(f"{place} is damaged: {detail}", hint="restore a backup: holdfast db restore <file>")
    if state == "58030":
        return InfraError(f"reading or writing {place} failed: {detail}", code="database_io")
    if state in ("55P03", "57014"):
        return InfraError(f"{place} was locked for too long: {detail}", hint="try again", code="database_locked")
    if state in ("25006", "42501"):
        return InfraError(
            f"{place} cannot be written: {detail}",
            hint="the user in HOLDFAST_DB needs to own the schema holdfast",
            code="database_readonly",
        )
    if state == "53300" or _NO_MORE.search(detail):
        return InfraError(
            f"{place} takes no more connections: {detail}",
            hint="end some of what is connected, or raise max_connections of PostgreSQL; nothing is lost, try again",
            code="too_many_connections",
        )
    lost = state.startswith(("08", "57P", "28", "3D")) or (not state and isinstance(cause, OperationalError))
    if lost:
        return InfraError(
            f"{place} cannot be reached: {detail}",
            hint="is PostgreSQL running, and is HOLDFAST_DB right?",
            code="database_unreachable",
        )
    return InfraError(f"{place} failed: {detail}", code="database_failed")
