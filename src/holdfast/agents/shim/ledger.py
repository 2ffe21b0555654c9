"""Writes the journal: one JSON record per line, numbered from 1, bounded, whole lines only."""

from __future__ import annotations

import binascii
import os
import time

from . import lean

TAIL_BYTES = 16 << 10
TAIL_PIECES = 64
_ENVELOPE_BYTES = 256
_WORST_ESCAPE = 6
_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


class Full(Exception):
    """The journal can no longer be written, so what the command says and how it ends would be lost."""


class Ledger:
    """Appends records to a new journal; after `limit` bytes, output is cut with one `truncated` record.

    Beyond the limit the last 16 KiB of output are remembered and written before the exit record: that is where
    a failing command says why. Control records (started, timeout, stopping, truncated, exit) are always written.
    Where `line_limit` is not 0, the rest of a longer line of standard output is cut with a `cut_line` record.
    """

    def __init__(self, path: str, limit: int, line_limit: int = 0) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0
        self._limit = limit
        self._line_limit = line_limit
        self._line_bytes = 0
        self._partial: dict[str, bytes] = {}
        self._tail: list[tuple[str, bytes]] = []
        self._tail_bytes = 0
        self.n = 0
        self.truncated = False
        self.dropped_bytes = 0
        # From here on the file's existence is durable: after a power cut nobody takes this run for one that never ran.
        try:
            os.fsync(self._file)
            folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)
        except OSError:
            os.unlink(path)
            raise

    def record(self, kind: str, **fields: object) -> None:
        """Appends one control record. Raises `Full`."""
        self._append(self._line(kind, fields))

    def stdin(self, chunk: bytes, **fields: object) -> bool:
        """Appends what a client tells the command; False if there is no room for the whole of it. Raises `Full`."""
        line = self._line("stdin", {**fields, **_payload(chunk)})
        if self.truncated or self._size + len(line) > self._limit:
            return False
        self._append(line)
        return True

    def sync(self) -> None:
        """Makes what is there durable. Raises `Full`: after a failed sync nothing of it can be trusted."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise Full(f"the journal could not be made durable: {error}") from error

    def stream(self, kind: str, chunk: bytes) -> None:
        """Appends what the command said, as text where it is UTF-8. Raises `Full`."""
        if self._line_limit and kind == "stdout":
            chunk = self._within_lines(chunk)
        if self.truncated:
            self._drop(kind, chunk)
            return
        chunk = self._partial.pop(kind, b"") + chunk
        whole, rest = _split_character(chunk)
        if rest:
            self._partial[kind] = rest
        if whole:
            self._bounded(kind, whole, {})

    def close_stream(self, kind: str) -> None:
        """Writes the bytes of an unfinished character that the stream ended with."""
        rest = self._partial.pop(kind, b"")
        if rest:
            self._bounded(kind, rest, {})

    def seal(self, **fields: object) -> None:
        """Appends the exit record; on return it is durable. Raises `Full`."""
        for kind in list(self._partial):
            self.close_stream(kind)
        for kind, chunk in self._tail:
            self.dropped_bytes -= len(chunk)
            self._append(self._line(kind, {"after_gap": True, **_payload(chunk)}))
        before = self._size
        self.record("exit", **fields, dropped_bytes=self.dropped_bytes)
        lean.failpoint("shim.exit_written")
        try:
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)
            raise Full(f"the exit record could not be made durable: {error}") from error

    def _within_lines(self, chunk: bytes) -> bytes:
        """Gives the chunk without the piece that makes a line too long; only its first line can be (see `Launch`)."""
        end = chunk.find(b"\n")
        piece = end if end >= 0 else len(chunk)
        before, self._line_bytes = self._line_bytes, self._line_bytes + piece
        if self._line_bytes > self._line_limit:
            if before <= self._line_limit:
                self.record("cut_line", limit_bytes=self._line_limit)
            self.dropped_bytes += piece
            chunk = chunk[piece:]
        if end >= 0:
            self._line_bytes = len(chunk) - chunk.rfind(b"\n") - 1
        return chunk

    def _bounded(self, kind: str, chunk: bytes, fields: dict[str, object]) -> None:
        line = self._line(kind, {**fields, **_payload(chunk)})
        if self._size + len(line) <= self._limit:
            self._append(line)
            return
        room = max(0, (self._limit - self._size - _ENVELOPE_BYTES) // _WORST_ESCAPE)
        kept, _ = _split_character(chunk[:room])
        if kept:
            self._append(self._line(kind, {**fields, **_payload(kept)}))
        self.record("truncated", limit_bytes=self._limit)
        self.truncated = True
        self._drop(kind, chunk[len(kept) :])
        for other, rest in self._partial.items():
            self._drop(other, rest)
        self._partial.clear()

    def _drop(self, kind: str, chunk: bytes) -> None:
        self.dropped_bytes += len(chunk)
        if self._tail and self._tail[-1][0] == kind:
            chunk = self._forget(-1) + chunk
        chunk = chunk[-TAIL_BYTES:].lstrip(_CONTINUATION_BYTES)
        self._tail.append((kind, chunk))
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0][1]) > TAIL_BYTES or len(self._tail) > TAIL_PIECES:
            self._forget(0)

    def _forget(self, index: int) -> bytes:
        _, chunk = self._tail.pop(index)
        self._tail_bytes -= len(chunk)
        return chunk

    def _line(self, kind: str, fields: dict[str, object]) -> bytes:
        return lean.dumps({"n": self.n + 1, "at": round(time.time(), 6), "kind": kind, **fields})

    def _append(self, line: bytes) -> None:
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise Full(f"the journal could not be written: {error}") from error
        self._size += len(line)
        self.n += 1


def _split_character(chunk: bytes) -> tuple[bytes, bytes]:
    """Splits off an unfinished UTF-8 character at the end, so that a read in its middle does not make it binary."""
    for length in range(1, min(3, len(chunk)) + 1):
        byte = chunk[-length]
        if byte & 0xC0 == 0x80:
            continue
        wanted = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return (chunk[:-length], chunk[-length:]) if wanted > length else (chunk, b"")
    return chunk, b""


def _payload(chunk: bytes) -> dict[str, object]:
    try:
        return {"text": chunk.decode()}
    except UnicodeDecodeError:
        return {"base64": binascii.b2a_base64(chunk, newline=False).decode()}
