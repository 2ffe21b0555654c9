"""The vault's objects: read through one `git cat-file`, written as one pack per flush.

A pack is written under a temporary name, flushed to the disk, then its index, then both are renamed: git sees a whole
pack or none. Objects wait in memory until `flush`, so that a checkpoint of any size is one pack.
"""

from __future__ import annotations

import binascii
import ctypes
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from holdfast.clock import new_id
from holdfast.errors import Corruption
from holdfast.failpoints import failpoint
from holdfast.vcs import trees
from holdfast.vcs.git import Coprocess, disk_failures
from holdfast.vcs.trees import Tree

LARGE_BYTES = 8 << 20
"""Blobs from this size on are streamed into a file of their own and never held in memory."""
_PENDING_BYTES = 64 << 20
_CACHED_ENTRIES = 300_000
_QUESTIONS = 500
_DEDUPLICATE_FROM = 64
_CHUNK = 1 << 20
_KINDS = {"commit": 1, "tree": 2, "blob": 3}
TEMPORARY_PREFIXES = ("tmp_pack_holdfast_", "tmp_idx_holdfast_", "tmp_obj_holdfast_")


class Objects:
    """Reads and writes the objects of one repository; safe to share between threads."""

    def __init__(self, git_dir: Path, object_format: str, pass_fds: tuple[int, ...] = ()) -> None:
        self.git_dir = git_dir
        self.hash = hashlib.sha1 if object_format == "sha1" else hashlib.sha256
        self.hash_size = self.hash().digest_size
        self._pass_fds = pass_fds
        self._pending: dict[bytes, tuple[str, bytes]] = {}
        self._pending_bytes = 0
        self._trees: dict[bytes, Tree] = {}
        self._cached_entries = 0
        self._reader: Coprocess | None = None
        self._checker: Coprocess | None = None
        self._lock = threading.RLock()

    def oid(self, kind: str, data: bytes) -> bytes:
        """Gives the id that an object of this kind and content has."""
        return self.hash(b"%s %d\0" % (kind.encode(), len(data)) + data).digest()

    def put(self, kind: str, data: bytes) -> bytes:
        """Gives the object's id; it is in the repository after the next `flush`."""
        oid = self.oid(kind, data)
        with self._lock:
            if oid not in self._pending:
                self._pending[oid] = (kind, data)
                self._pending_bytes += len(data)
            if self._pending_bytes > _PENDING_BYTES:
                self.flush()
        return oid

    def put_tree(self, entries: Tree) -> bytes:
        """Gives the id of the tree with these entries; it is in the repository after the next `flush`."""
        oid = self.put("tree", trees.serialise(entries))
        with self._lock:
            self._remember(oid, entries)
        return oid

    def put_large(self, source: BinaryIO, size: int) -> bytes | None:
        """Gives the id of a blob that was streamed into a file of its own, flushed; None if `size` was wrong."""
        folder = self.git_dir / "objects"
        temporary = folder / f"tmp_obj_holdfast_{new_id()}"
        digest, packer, rest = self.hash(b"blob %d\0" % size), zlib.compressobj(1), size
        with disk_failures():
            try:
                with open(temporary, "xb") as target:
                    target.write(packer.compress(b"blob %d\0" % size))
                    while chunk := source.read(min(_CHUNK, rest + 1)):
                        rest -= len(chunk)
                        digest.update(chunk)
                        target.write(packer.compress(chunk))
                    target.write(packer.flush())
                    os.fchmod(target.fileno(), 0o444)
                    target.flush()
                    os.fdatasync(target.fileno())
                if rest:
                    return None
                name = digest.hexdigest()
                (folder / name[:2]).mkdir(exist_ok=True)
                temporary.replace(folder / name[:2] / name[2:])
            finally:
                temporary.unlink(missing_ok=True)
        return digest.digest()

    def read(self, oid: bytes) -> tuple[str, bytes]:
        """Gives kind and content of an object; raises `Corruption` if it is not there."""
        with self._conversation():
            if oid in self._pending:
                return self._pending[oid]
            kind, size, reader = self._ask(oid)
            content = reader.read(size)
            reader.read(1)
            return kind, content

    def copy_blob(self, oid: bytes, target: BinaryIO) -> None:
        """Writes a blob's content to `target`, in pieces; raises `Corruption` if it is not what its id says."""
        with self._conversation():
            if oid in self._pending:
                target.write(self._pending[oid][1])
                return
            _, size, reader = self._ask(oid)
            found = self.hash(b"blob %d\0" % size)
            while size:
                chunk = reader.read(min(_CHUNK, size))
                found.update(chunk)
                target.write(chunk)
                size -= len(chunk)
            reader.read(1)
        if found.digest() != oid:
            raise Corruption(
                f"the object {oid.hex()} in the vault is corrupt",
                hint="run `holdfast db check`; restore the data folder's backup",
            )

    @contextmanager
    def _conversation(self) -> Generator[None]:
        """Keeps the lock, and lets the reader go if anything fails: what it still had to say would answer the next."""
        with self._lock:
            try:
                yield
            except BaseException:
                reader, self._reader = self._reader, None
                if reader is not None:
                    reader.close()
                raise

    def _ask(self, oid: bytes) -> tuple[str, int, Coprocess]:
        if self._reader is None:
            self._reader = Coprocess(["cat-file", "--batch"], git_dir=self.git_dir, pass_fds=self._pass_fds)
        self._reader.send(oid.hex().encode() + b"\n")
        kind, size = self._answer(self._reader.line(), oid.hex().encode())
        return kind, size, self._reader

    @staticmethod
    def _answer(line: bytes, name: bytes) -> tuple[str, int]:
        words = line.split()
        if len(words) != 3 or words[0] != name:
            raise Corruption(
                f"the vault has no object {name.decode()}",
                hint="run `holdfast db check`; restore the data folder's backup",
            )
        return words[1].decode(), int(words[2])

    def tree(self, oid: bytes) -> Tree:
        """Gives the entries of a tree, from memory where it was seen before."""
        with self._lock:
            known = self._trees.get(oid)
            if known is None:
                known = trees.parse(self.read(oid)[1], self.hash_size)
                self._remember(oid, known)
            return known

    def load_trees(self, oids: Iterable[bytes]) -> None:
        """Reads many trees with few round trips, so that `tree` then finds them in memory."""
        with self._conversation():
            missing = [oid for oid in oids if oid not in self._trees and oid not in self._pending]
            for at in range(0, len(missing), _QUESTIONS):
                part = missing[at : at + _QUESTIONS]
                _, size, reader = self._ask(part[0])
                reader.send(b"".join(oid.hex().encode() + b"\n" for oid in part[1:]))
                for number, oid in enumerate(part):
                    if number:
                        _, size = self._answer(reader.line(), oid.hex().encode())
                    self._remember(oid, trees.parse(reader.read(size), self.hash_size))
                    reader.read(1)

    def _remember(self, oid: bytes, entries: Tree) -> None:
        if self._cached_entries > _CACHED_ENTRIES:
            self._trees.clear()
            self._cached_entries = 0
        if oid not in self._trees:
            self._trees[oid] = entries
            self._cached_entries += len(entries) + 1

    def missing(self, oids: Iterable[bytes]) -> set[bytes]:
        """Gives those ids that neither the repository nor the pending objects have."""
        with self._lock:
            asked = [oid for oid in oids if oid not in self._pending]
            return {oid for oid, present in self._present(asked) if not present}

    def named(self, ref: str) -> str | None:
        """Gives the id of the object that a full ref name (`refs/…`) is at now, None if there is no such ref."""
        with self._lock:
            ((_, line),) = self._checked([ref.encode("utf-8", "surrogateescape")])
            return None if line.endswith((b" missing", b" ambiguous")) else line.split(b" ")[0].decode()

    def sizes(self, oids: Iterable[bytes]) -> list[int]:
        """Gives the size in bytes of each object's content; raises `Corruption` if one is not there."""
        with self._lock:
            self.flush()
            answers = self._checked([oid.hex().encode() for oid in oids])
            return [self._answer(line, name)[1] for name, line in answers]

    def _present(self, oids: list[bytes]) -> Iterator[tuple[bytes, bool]]:
        answers = self._checked([oid.hex().encode() for oid in oids])
        return ((oid, not line.endswith(b" missing")) for oid, (_, line) in zip(oids, answers, strict=True))

    def _checked(self, names: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Gives what git says of each name: id, kind and size of the object, or that it is missing."""
        if names and self._checker is None:
            self._checker = Coprocess(["cat-file", "--batch-check"], git_dir=self.git_dir, pass_fds=self._pass_fds)
        for at in range(0, len(names), _QUESTIONS):
            part = names[at : at + _QUESTIONS]
            assert self._checker is not None
            self._checker.send(b"".join(name + b"\n" for name in part))
            yield from [(name, self._checker.line()) for name in part]

    def flush(self) -> None:
        """Writes the pending objects as one pack; its content is on the disk on return, its name after a sync."""
        with self._lock, disk_failures():
            if len(self._pending) > _DEDUPLICATE_FROM:
                for oid, present in list(self._present(list(self._pending))):
                    if present:
                        del self._pending[oid]
            if self._pending:
                self._write_pack()
            self._pending.clear()
            self._pending_bytes = 0

    def sync(self) -> None:
        """Returns when all that was put is on the disk, with its name. A failure is never retried."""
        self.flush()
        with disk_failures():
            sync_filesystem(self.git_dir)

    def _write_pack(self) -> None:
        pack = bytearray(b"PACK" + struct.pack(">II", 2, len(self._pending)))
        records: list[tuple[bytes, int, int]] = []
        for oid, (kind, content) in self._pending.items():
            item = _item_header(_KINDS[kind], len(content)) + zlib.compress(content, 1)
            records.append((oid, binascii.crc32(item), len(pack)))
            pack += item
        checksum = self.hash(pack).digest()
        pack += checksum
        folder = self.git_dir / "objects" / "pack"
        unique = new_id()
        pack_temporary = folder / f"tmp_pack_holdfast_{unique}"
        index_temporary = folder / f"tmp_idx_holdfast_{unique}"
        try:
            _write_flushed(pack_temporary, pack)
            _write_flushed(index_temporary, self._pack_index(records, checksum))
            failpoint("vcs.pack.flushed")
            pack_temporary.rename(folder / f"pack-{checksum.hex()}.pack")
            failpoint("vcs.pack.without_index")
            index_temporary.rename(folder / f"pack-{checksum.hex()}.idx")
        finally:
            pack_temporary.unlink(missing_ok=True)
            index_temporary.unlink(missing_ok=True)

    def _pack_index(self, records: list[tuple[bytes, int, int]], checksum: bytes) -> bytes:
        records.sort()
        counts = [0] * 256
        for oid, _, _ in records:
            counts[oid[0]] += 1
        for byte in range(1, 256):
            counts[byte] += counts[byte - 1]
        body = b"".join(
            (
                b"\377tOc" + struct.pack(">I", 2) + struct.pack(">256I", *counts),
                b"".join(record[0] for record in records),
                struct.pack(f">{len(records)}I", *(record[1] for record in records)),
                struct.pack(f">{len(records)}I", *(record[2] for record in records)),
                checksum,
            )
        )
        return body + self.hash(body).digest()

    def close(self) -> None:
        """Ends the readers; pending objects are dropped."""
        with self._lock:
            for process in (self._reader, self._checker):
                if process is not None:
                    process.close()
            self._reader = self._checker = None
            self._pending.clear()
            self._pending_bytes = 0


def _item_header(kind: int, size: int) -> bytes:
    header = bytearray()
    current = kind << 4 | size & 15
    size >>= 4
    while size:
        header.append(current | 0x80)
        current = size & 0x7F
        size >>= 7
    header.append(current)
    return bytes(header)


def _write_flushed(path: Path, content: bytes | bytearray) -> None:
    with open(path, "xb", buffering=0) as target:
        rest = memoryview(content)
        while rest:
            rest = rest[target.write(rest) :]
        os.fchmod(target.fileno(), 0o444)
        os.fdatasync(target.fileno())


def sync_filesystem(path: Path) -> None:
    """Flushes the filesystem that `path` is on; raises OSError if that fails."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
