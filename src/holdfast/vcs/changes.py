"""What changed in a folder since one last asked: a recursive inotify watch, by ctypes.

A watch makes a snapshot cheap, it never proves anything: whatever it cannot be sure of (a queue that overflowed, a
limit, a filesystem that other machines write to, a probe file that it does not see) makes `drain` answer None.
Not watchfiles: its thread polls and delivers after 10 ms at best; the kernel queues an event before the writer's system
call returns, so reading the queue when one needs it is both exact and free.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.clock import new_id

TEMPORARY_PREFIX = b".holdfast-tmp-"
"""Files of ours in a worktree that are on their way to their real name; never part of a snapshot."""

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_UNMOUNT, _OVERFLOW, _IGNORED, _IS_FOLDER = 0x2000, 0x4000, 0x8000, 0x40000000
_ONLY_FOLDERS = 0x01000000
_MASK = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLY_FOLDERS
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 20
_SHARED_FILESYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse", "virtiofs", "vboxsf", "ceph", "afs", "gfs", "ocfs")


def is_ours_or_git(name: bytes) -> bool:
    """Says whether a name is never in a snapshot: `.git` in any case (git does not check such out), or a temporary."""
    return name.lower() == b".git" or name.startswith(TEMPORARY_PREFIX)


@dataclass(slots=True)
class Changes:
    """Paths whose file may have changed, and paths where a folder appeared (everything below it is new)."""

    paths: set[bytes] = field(default_factory=set[bytes])
    folders: set[bytes] = field(default_factory=set[bytes])


class Watch:
    """Watches the folders that `add` names. Paths are bytes, relative to the watched root, `b""` for the root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._paths: dict[int, bytes] = {}
        self._watches: dict[bytes, int] = {}
        self._probes: set[bytes] = set()
        self.lost = self._descriptor < 0 or _is_shared(root)

    def add(self, path: bytes, descriptor: int) -> None:
        """Watches the folder `path`, open as `descriptor`; to be called before its names are listed."""
        if self._descriptor < 0:
            return
        place = f"/proc/self/fd/{descriptor}".encode()
        watch = self._libc.inotify_add_watch(self._descriptor, place, ctypes.c_uint32(_MASK))
        if watch < 0:
            self.lost = True
            return
        former = self._paths.get(watch)
        if former is not None and former != path and self._watches.get(former) == watch:
            del self._watches[former]
        self._paths[watch] = path
        self._watches[path] = watch

    def watches(self, path: bytes) -> bool:
        """Says whether the folder `path` is watched."""
        return path in self._watches

    def prove(self) -> bool:
        """Makes a file come and go in the root, which the next `drain` must see; says whether that could be done.

        A watch that sees nothing would say "no change" for ever.
        """
        if self.lost:
            return False
        probe = TEMPORARY_PREFIX + b"probe-" + new_id().encode()
        place = os.path.join(os.fsencode(self._root), probe)
        try:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError:
            return False  # nothing can be written here: then nothing is proved, and scans do the work
        self._probes.add(probe)
        os.unlink(place)
        return True

    def drain(self) -> Changes | None:
        """Gives what changed since the last call, None if that cannot be known; every probe must have been seen."""
        changes = Changes()
        while not self.lost:
            try:
                events = os.read(self._descriptor, _BUFFER_BYTES)
            except BlockingIOError:
                break
            self._take(events, changes)
        if self.lost or self._probes:
            return None
        return changes

    def _take(self, events: bytes, changes: Changes) -> None:
        at = 0
        while at < len(events):
            watch, mask, _, length = _EVENT.unpack_from(events, at)
            name = events[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            if mask & (_OVERFLOW | _UNMOUNT):
                self.lost = True
            elif mask & _IGNORED:
                self._drop(watch)
            elif name and watch in self._paths:
                self._note(self._paths[watch], name, mask, changes)

    def _note(self, folder: bytes, name: bytes, mask: int, changes: Changes) -> None:
        if is_ours_or_git(name):
            self._probes.discard(name)
            return
        path = folder + b"/" + name if folder else name
        if not mask & _IS_FOLDER:
            changes.paths.add(path)
        elif mask & (_CREATE | _MOVED_TO):
            changes.folders.add(path)
        elif mask & (_DELETE | _MOVED_FROM):
            changes.paths.add(path)
            if mask & _MOVED_FROM:
                self._forget(path)

    def _forget(self, path: bytes) -> None:
        """A folder moved away: its watches would report under the old name."""
        below = path + b"/"
        for known in [known for known in self._watches if known == path or known.startswith(below)]:
            watch = self._watches.pop(known)
            self._paths.pop(watch, None)
            self._libc.inotify_rm_watch(self._descriptor, watch)

    def _drop(self, watch: int) -> None:
        path = self._paths.pop(watch, None)
        if path is not None and self._watches.get(path) == watch:
            del self._watches[path]

    def close(self) -> None:
        """Gives the watches back to the kernel."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
        self.lost = True


def _is_shared(root: Path) -> bool:
    """Says whether another machine may write to the filesystem of `root`, which inotify does not see."""
    device = os.stat(root).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            left, _, right = line.partition(" - ")
            if left.split()[2] == wanted:
                return right.split()[0].startswith(_SHARED_FILESYSTEMS)
    return False
