"""Reads and writes text files of a worktree for an agent, and nothing else of the machine.

A path is walked one component at a time by descriptor and never handed to the system whole. Symbolic links are read,
not followed: where they lead is walked in the same way, so that one that leads outside is refused and none can be put
in the way between a check and its use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress

from holdfast.agents.acp.wire import INTERNAL_ERROR, INVALID_PARAMS, RESOURCE_NOT_FOUND, RpcError

_LINKS_MAX = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """Says what the agent is answered."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.message)
        self.error = error


class Files:
    """The text files below `root`, which the agent knows as `shown`. Every method raises `Refused`."""

    def __init__(self, root: str, shown: str, max_bytes: int) -> None:
        self._root = root
        self._names = {os.path.normpath(root), os.path.normpath(shown), os.path.realpath(root)}
        self._max_bytes = max_bytes

    def read(self, path: str, line: int | None = None, limit: int | None = None) -> str:
        """Gives a file's text, or `limit` lines of it from `line` (1 is the first)."""
        file = self._open(path, os.O_RDONLY)
        with open(file, "rb") as stream:
            content = stream.read(self._max_bytes + 1)
        if len(content) > self._max_bytes:
            raise _refused(f"{path} is larger than {self._max_bytes} bytes")
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise _refused(f"{path} is not UTF-8 text") from None
        if line is None and limit is None:
            return text
        first = max(0, (line or 1) - 1)
        lines = text.splitlines(keepends=True)
        return "".join(lines[first:] if limit is None else lines[first : first + limit])

    def write(self, path: str, text: str) -> None:
        """Makes the file hold the text; makes it, and its folders, if it is not there.

        Written again after a crash it comes to the same. A file that has other names too (hard links, as package
        managers make them to their stores) is replaced, so that only this name changes.
        """
        content = text.encode()
        if len(content) > self._max_bytes:
            raise _refused(f"more than {self._max_bytes} bytes for {path}")
        file = self._open(path, os.O_WRONLY | os.O_CREAT)
        with open(file, "wb", buffering=0) as stream:
            stream.truncate()
            rest = memoryview(content)
            while rest:
                rest = rest[stream.write(rest) :]

    def folder(self, path: str | None) -> str:
        """Gives the real path of a folder, from the root; `.` for the root itself, and for None."""
        found = self._walk(path or ".", lambda place, name: os.open(name, _FOLDER, dir_fd=place))
        try:
            return os.path.relpath(os.readlink(f"/proc/self/fd/{found}"), os.path.realpath(self._root))
        finally:
            os.close(found)

    def _open(self, path: str, flags: int) -> int:
        writing = bool(flags & os.O_CREAT)

        def reach(place: int, name: str) -> int:
            # Not blocking, as it may be a pipe; it is looked at before anything is read.
            flags_now = flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            file = os.open(name, flags_now, 0o666, dir_fd=place)
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                os.close(file)
                raise _refused(f"{path} is not a file")
            if writing and status.st_nlink > 1:
                os.close(file)
                os.unlink(name, dir_fd=place)
                mode = stat.S_IMODE(status.st_mode) & 0o777
                return os.open(name, flags_now | os.O_EXCL, mode, dir_fd=place)
            return file

        return self._walk(path, reach, make=writing)

    def parts(self, path: str) -> list[str]:
        """Gives the path's components below the root; `..` stays, as what it means depends on links."""
        if "\0" in path or not path:
            raise _refused("a path cannot be empty or hold a NUL")
        if not os.path.isabs(path):
            return path.split("/")
        for name in self._names:
            if path == name or path.startswith(name.rstrip("/") + "/"):
                return path[len(name) :].split("/")
        raise _refused(f"{path} is outside of the worktree")

    def _walk(self, path: str, reach: Callable[[int, str], int], *, make: bool = False) -> int:
        """Gives what `reach` opens at the end of the path; makes missing folders on the way if asked to."""
        try:
            with ExitStack() as stack:
                return _Walk(self, path, stack).to(reach, make)
        except OSError as error:
            raise _from_os(path, error) from error

    def start(self, stack: ExitStack) -> int:
        """Opens the root itself, closed with the stack."""
        place = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, place)
        return place


class _Walk:
    """One walk from the root: the open folders from there to here, and the components still to go."""

    def __init__(self, files: Files, path: str, stack: ExitStack) -> None:
        self._files = files
        self._path = path
        self._stack = stack
        self._places = [files.start(stack)]
        self._parts = files.parts(path)[::-1]
        self._links = 0

    def to(self, reach: Callable[[int, str], int], make: bool) -> int:
        while self._parts:
            part = self._parts.pop()
            if part == "..":
                self._leave()
            elif part not in ("", "."):
                last = not any(each not in ("", ".") for each in self._parts)
                target = self._link(part)
                if target is not None:
                    self._follow(target)
                elif last:
                    return reach(self._places[-1], part)
                else:
                    self._enter(part, make)
        return reach(self._places[-1], ".")

    def _enter(self, part: str, make: bool) -> None:
        if make:
            with suppress(FileExistsError):
                os.mkdir(part, 0o777, dir_fd=self._places[-1])
        place = os.open(part, _FOLDER, dir_fd=self._places[-1])
        self._stack.callback(os.close, place)
        self._places.append(place)

    def _leave(self) -> None:
        if len(self._places) == 1:
            raise _refused(f"{self._path} leads out of the worktree")
        self._places.pop()

    def _link(self, part: str) -> str | None:
        try:
            return os.readlink(part, dir_fd=self._places[-1])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise

    def _follow(self, target: str) -> None:
        self._links += 1
        if self._links > _LINKS_MAX:
            raise _refused(f"{self._path} goes through too many symbolic links")
        if os.path.isabs(target):
            del self._places[1:]
        self._parts += self._files.parts(target)[::-1]


def _refused(message: str) -> Refused:
    return Refused(RpcError(INVALID_PARAMS, message))


def _from_os(path: str, error: OSError) -> Refused:
    if error.errno == errno.ENOENT:
        return Refused(RpcError(RESOURCE_NOT_FOUND, f"{path} does not exist"))
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG):
        return _refused(f"{path}: {os.strerror(error.errno)}")
    return Refused(RpcError(INTERNAL_ERROR, f"{path}: {error.strerror}"))
