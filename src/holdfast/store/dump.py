"""A dump of all our tables that either database can load: JSON lines, compressed with zstandard.

The first line names the schema, the last one counts the rows, so a dump that was cut off is recognised.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import zstandard
from sqlalchemy import Connection, Table, delete, func, insert, select, text

from holdfast.errors import Corruption, IllegalState, Unavailable, UsageError
from holdfast.store import workers
from holdfast.store.columns import Moment
from holdfast.store.database import Database
from holdfast.store.locks import is_alive
from holdfast.store.migrate import HEAD
from holdfast.store.tables import events, metadata

_FORMAT = "holdfast-dump-1"
_BATCH = 500
# Rows that point at rows of their own table come after those.
_ORDER = {"steps": ("number",), "messages": ("position", "id")}


def write(database: Database, target: Path) -> None:
    """Writes all rows as they are at one moment; the caller makes the file durable."""
    with target.open("xb") as file, zstandard.ZstdCompressor(level=6).stream_writer(file, closefd=False) as compressed:
        with io.TextIOWrapper(compressed, encoding="utf-8", write_through=True) as out:
            with database.read(snapshot=True) as connection:
                out.write(json.dumps({"format": _FORMAT, "schema": HEAD}) + "\n")
                count = 0
                for line in _lines(connection):
                    out.write(line + "\n")
                    count += 1
                out.write(json.dumps({"end": count}) + "\n")


def _lines(connection: Connection) -> Iterator[str]:
    for table in metadata.sorted_tables:
        order = _ORDER.get(table.name, tuple(column.name for column in table.primary_key))
        query = select(table).order_by(*(table.c[name] for name in order)).execution_options(yield_per=_BATCH)
        for row in connection.execute(query):
            values = {name: _plain(value) for name, value in row._mapping.items()}  # pyright: ignore[reportPrivateUsage]
            yield json.dumps({"table": table.name, "row": values}, ensure_ascii=False)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def load(database: Database, source: Path) -> int:
    """Replaces all rows by those of a dump, in one transaction; gives their number.

    Raises `Corruption` for a dump that is damaged or cut off, `IllegalState` for one of another schema.
    """
    with database.transaction() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
        count = 0
        for table, rows in _batches(_rows(source)):
            connection.execute(insert(table), rows)
            count += len(rows)
        if not database.is_sqlite:
            _advance_sequences(connection)
    return count


def read_through(source: Path) -> None:
    """Reads a whole dump; raises what `load` would."""
    for _ in _rows(source):
        pass


def _rows(source: Path) -> Iterator[tuple[Table, dict[str, Any]]]:
    lines = _read(source)
    first = next(lines, None)
    if first is None or first.get("format") != _FORMAT:
        raise UsageError(f"{source} is not a backup of Holdfast's", hint="name a file of holdfast db backup")
    if first.get("schema") != HEAD:
        raise IllegalState(
            f"{source} has schema {first.get('schema')}, this Holdfast has {HEAD}",
            hint="restore it with the Holdfast that made it, then upgrade",
            code="newer_schema",
        )
    count = 0
    for line in lines:
        if "end" in line:
            if line["end"] != count:
                raise Corruption(f"{source} has {count} rows where it had {line['end']}", hint="use another backup")
            return
        count += 1
        yield metadata.tables[line["table"]], _values(metadata.tables[line["table"]], line["row"])
    raise Corruption(f"{source} was cut off after {count} rows", hint="use another backup")


def _read(source: Path) -> Iterator[dict[str, Any]]:
    try:
        with source.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as content:
            for line in io.TextIOWrapper(content, encoding="utf-8"):
                yield cast("dict[str, Any]", json.loads(line))
    except (zstandard.ZstdError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Corruption(f"{source} is damaged: {error}", hint="use another backup") from error


def _values(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(row)
    for column in table.columns:
        if isinstance(column.type, Moment) and values[column.name] is not None:
            values[column.name] = datetime.fromisoformat(values[column.name])
    if table is events:
        # Transaction numbers belong to the server that gave them; 0 puts these rows before all new ones.
        values["tx"] = 0
    return values


def _batches(rows: Iterator[tuple[Table, dict[str, Any]]]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    current: Table | None = None
    batch: list[dict[str, Any]] = []
    for table, row in rows:
        if current is not None and (table is not current or len(batch) == _BATCH):
            yield current, batch
            batch = []
        current = table
        batch.append(row)
    if current is not None:
        yield current, batch


def _advance_sequences(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        key = next(iter(table.primary_key))
        if key.autoincrement is not True:
            continue
        last = connection.execute(select(func.max(key))).scalar_one()
        name = connection.execute(text(f"SELECT pg_get_serial_sequence('{table.name}', 'id')")).scalar_one()
        connection.execute(text("SELECT setval(:name, :next, false)"), {"name": name, "next": (last or 0) + 1})


def refuse_running(database: Database) -> None:
    """Raises `Unavailable` that names a worker of this database that is alive."""
    with database.read() as connection:
        candidates = workers.list_(connection, stopped=False, limit=1000).items
    for worker in candidates:
        if is_alive(database, worker.id):
            raise Unavailable(f"worker {worker.pid} on {worker.host} runs", hint="stop it first", code="worker_running")
