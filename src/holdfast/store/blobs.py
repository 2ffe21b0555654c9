"""Content-addressed files: what git does not hold, kept once per content and verified whenever it is read.

A blob lies at `<folder>/ab/cdef…`, its SHA-256 in hexadecimal, compressed with zstandard. The file comes before its row
in `blobs`: a kill in between leaves a file that the next write of the same content takes up. Nothing trusts a blob
unread: not who reads it, and not who writes the same content again, which mends a damaged one.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard
from sqlalchemy import Connection, select

from holdfast import clock
from holdfast.errors import Corruption, InfraError
from holdfast.failpoints import failpoint
from holdfast.store.files import flush, told
from holdfast.store.rows import entity, one
from holdfast.store.tables import blobs, file_snapshots

_CHUNK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored content: its SHA-256, its size, and the size of its compressed file."""

    digest: str
    size: int
    stored_size: int


def path_of(folder: Path, digest: str) -> Path:
    """Gives the place of a blob's file."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError("a blob's name is 64 hexadecimal digits")
    return folder / digest[:2] / digest[2:]


def write(folder: Path, content: bytes | BinaryIO) -> Blob:
    """Stores a content as a file, durable when this returns; the same content again costs no second file.

    What can be sought is read from its present position twice, unless it is stored already.
    """
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    temporary = folder / f".{clock.new_id()}.part"
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            known = _whole(folder, source) if source.seekable() else None
            digest, size = known or _compress(source, temporary)
            target = path_of(folder, digest)
            if known is None:
                target.parent.mkdir(exist_ok=True)
                failpoint("store.blob.before_rename")
                # A file in its place has the same content, or a damaged one.
                temporary.rename(target)
                failpoint("store.blob.after_rename")
            # Also for a file found: its first writer may have been killed before these.
            flush(target.parent)
            flush(folder)
            return Blob(digest, size, target.stat().st_size)
        finally:
            temporary.unlink(missing_ok=True)


def _whole(folder: Path, source: BinaryIO) -> tuple[str, int] | None:
    """Gives digest and size of what `source` has if that is stored undamaged; else `source` is back where it was."""
    begin = source.tell()
    checksum = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        checksum.update(chunk)
    try:
        return checksum.hexdigest(), verify(folder, checksum.hexdigest())
    except Corruption:
        source.seek(begin)
        return None


def found(folder: Path, digest: str, size: int) -> Blob:
    """Gives the blob of a content of that size whose file is there; raises `Corruption` if it is not."""
    path = path_of(folder, digest)
    try:
        return Blob(digest, size, path.stat().st_size)
    except FileNotFoundError as error:
        raise _missing(path, digest) from error


def _missing(path: Path, digest: str) -> Corruption:
    return Corruption(f"blob {digest} is missing", hint=_hint(path))


def _hint(path: Path) -> str:
    return f"restore {path} from a backup"


def _compress(source: BinaryIO, target: Path) -> tuple[str, int]:
    checksum = hashlib.sha256()
    size = 0
    with target.open("xb") as file:
        with zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(file, closefd=False) as compressed:
            while chunk := source.read(_CHUNK):
                checksum.update(chunk)
                size += len(chunk)
                compressed.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return checksum.hexdigest(), size


def copy_to(folder: Path, digest: str, target: BinaryIO) -> int:
    """Writes a blob's content to `target` and gives its size; raises `Corruption` that names a blob that is not right.

    The check ends with the last byte: use what was written only when this returns.
    """
    size = 0
    for chunk in _content(folder, digest):
        size += len(chunk)
        target.write(chunk)
    return size


def verify(folder: Path, digest: str) -> int:
    """Reads a blob to its end and gives its size; errors as `copy_to`."""
    return sum(len(chunk) for chunk in _content(folder, digest))


def _content(folder: Path, digest: str) -> Generator[bytes]:
    """Gives the content in pieces; the last of them is followed by the check of the whole."""
    path = path_of(folder, digest)
    checksum = hashlib.sha256()
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as content:
            while chunk := content.read(_CHUNK):
                checksum.update(chunk)
                yield chunk
    except FileNotFoundError as error:
        raise _missing(path, digest) from error
    except zstandard.ZstdError as error:
        raise Corruption(f"blob {digest} is damaged: {error}", hint=_hint(path)) from error
    except OSError as error:
        raise InfraError(
            f"{path}: {error.strerror}", hint="check the disk and the folder's rights", code="disk_failed"
        ) from error
    if checksum.hexdigest() != digest:
        raise Corruption(f"blob {digest} has another content", hint=_hint(path))


def read(folder: Path, digest: str) -> bytes:
    """Gives a blob's content, verified; errors as `copy_to`."""
    content = io.BytesIO()
    copy_to(folder, digest, content)
    return content.getvalue()


def record(connection: Connection, blob: Blob) -> None:
    """Notes a blob whose file is stored; noting it twice is the same."""
    # Locked against `store.retention`, which deletes the rows that nothing refers to.
    known = select(blobs.c.digest).where(blobs.c.digest == blob.digest).with_for_update(read=True, key_share=True)
    if connection.execute(known).one_or_none() is not None:
        return
    values = {"digest": blob.digest, "size": blob.size, "stored_size": blob.stored_size, "created_at": clock.now()}
    if connection.dialect.name == "sqlite":
        connection.execute(blobs.insert().values(**values))
        return
    from sqlalchemy.dialects.postgresql import insert

    connection.execute(insert(blobs).values(**values).on_conflict_do_nothing())


def get(connection: Connection, digest: str) -> Blob:
    """Gives what is noted of a blob; raises `NotFound`."""
    return entity(Blob, one(connection, select(blobs).where(blobs.c.digest == digest), f"blob {digest}"))


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file that git does not hold, kept with a checkpoint: its path in the worktree, its mode and its content.

    The mode is a file's permission bits, or `stat.S_IFLNK` for a symlink, whose content is what it points to.
    """

    path: str
    mode: int
    blob: Blob


def attach(connection: Connection, checkpoint_id: str, files: Sequence[KeptFile]) -> None:
    """Notes the kept files of a checkpoint whose blobs are stored; a second time it does nothing."""
    if not files:
        return
    columns = file_snapshots.c
    known = set(connection.execute(select(columns.path).where(columns.checkpoint_id == checkpoint_id)).scalars())
    new = {path: file for file in files if (path := _escaped(file.path)) not in known}
    for blob in {file.blob.digest: file.blob for file in new.values()}.values():
        record(connection, blob)
    if new:
        rows = [
            {"checkpoint_id": checkpoint_id, "path": path, "mode": file.mode, "digest": file.blob.digest}
            for path, file in new.items()
        ]
        connection.execute(file_snapshots.insert(), rows)


def attached(connection: Connection, checkpoint_id: str) -> tuple[KeptFile, ...]:
    """Gives the files kept with a checkpoint, by path."""
    query = (
        select(file_snapshots.c.path, file_snapshots.c.mode, blobs)
        .join(blobs, blobs.c.digest == file_snapshots.c.digest)
        .where(file_snapshots.c.checkpoint_id == checkpoint_id)
        .order_by(file_snapshots.c.path)
    )
    rows = connection.execute(query).all()
    return tuple(KeptFile(_unescaped(row.path), row.mode, Blob(row.digest, row.size, row.stored_size)) for row in rows)


def _escaped(path: str) -> str:
    """Gives a path as text that every database keeps: bytes that are not UTF-8 as `\\xff`, a backslash doubled."""
    return os.fsencode(path).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def _unescaped(text: str) -> str:
    plain = _ESCAPE.sub(lambda each: bytes.fromhex(each[1].decode()) if each[1] else b"\\", text.encode())
    return os.fsdecode(plain)
