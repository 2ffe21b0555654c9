"""Reads the journal of a run: its records in order, whatever state its last line is in.

The file only grows, by whole lines numbered from 1. A last line that is cut or garbled is what a power cut leaves and
is not there; the same in front of a good record is damage, and `Corruption`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import Corruption

FILE_NAME = "journal.jsonl"
OUTPUT_KINDS = ("stdout", "stderr")
_READ_BYTES = 1 << 20
_EXIT_RECORD_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the journal. `fields` holds what its kind adds; streams have `content`."""

    n: int
    at: float
    kind: str
    fields: Mapping[str, object]

    @property
    def content(self) -> bytes:
        """The bytes that passed through the stream; empty for other kinds."""
        encoded = self.fields.get("base64")
        if isinstance(encoded, str):
            return base64.b64decode(encoded)
        return self.text.encode()

    @property
    def text(self) -> str:
        """The same for people: bytes that are not UTF-8 become replacement characters."""
        text = self.fields.get("text")
        if isinstance(text, str):
            return text
        return self.content.decode(errors="replace") if "base64" in self.fields else ""


class Reader:
    """Reads on from where it stopped, so that a growing journal is read once."""

    def __init__(self, path: Path, after: int = 0) -> None:
        self._path = path
        self._after = after
        self._n = 0
        self._position = 0

    def read(self, limit: int) -> list[Record]:
        """Gives at most `limit` new records; none if there are none yet. Raises `Corruption`."""
        try:
            with self._path.open("rb") as file:
                return self._read(file, limit)
        except FileNotFoundError:
            return []

    def _read(self, file, limit: int) -> list[Record]:
        records: list[Record] = []
        file.seek(self._position)
        while len(records) < limit:
            line = file.readline()
            if not line.endswith(b"\n"):
                break
            if self._n < self._after:
                self._n += 1
            else:
                record = _parse(line, self._n + 1)
                if record is None:
                    self._require_torn_end(file)
                    break
                records.append(record)
                self._n = record.n
            self._position += len(line)
        return records

    def _require_torn_end(self, file) -> None:
        for line in file:
            if _parse(line, None) is not None:
                raise Corruption(
                    f"record {self._n + 1} of {self._path} is damaged, at byte {self._position}",
                    hint="The run's record cannot be trusted: retry the task, which starts a new one.",
                )


def read(path: Path, after: int = 0) -> Iterator[Record]:
    """Gives the records with a number above `after` that are there now. Raises `Corruption`."""
    reader = Reader(path, after)
    while records := reader.read(1000):
        yield from records


def complete(path: Path) -> Record | None:
    """Gives the exit record, None if the command has not ended (or nobody saw how); reads only the file's end."""
    block = _end_of(path, _EXIT_RECORD_MAX_BYTES)
    if not block.endswith(b"\n"):
        return None
    last = _parse(block[:-1].rpartition(b"\n")[2], None)
    return last if last is not None and last.kind == "exit" else None


def last_output(path: Path, characters: int) -> str:
    """Gives the last of what the command wrote, from at most the last MiB of the journal."""
    lines = _end_of(path, _READ_BYTES).splitlines(keepends=True)
    records = (_parse(line, None) for line in lines if line.endswith(b"\n"))
    texts = [record.text for record in records if record is not None and record.kind in OUTPUT_KINDS]
    return "".join(texts)[-characters:]


def _end_of(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size)
    except FileNotFoundError:
        return b""


def _parse(line: bytes, expected: int | None) -> Record | None:
    try:
        fields = json.loads(line)
        n, at, kind = fields.pop("n"), fields.pop("at"), fields.pop("kind")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if expected is not None and n != expected:
        return None
    return Record(n, at, kind, fields)
