"""Says where an agent's program is installed: a sandbox shows that, and not the home folder around it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

# Every sandbox shows these.
_SYSTEM = tuple(Path(each) for each in ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt"))
_SHEBANG_BYTES = 256


@dataclass(frozen=True, slots=True)
class Installed:
    """A program as it is to be started, and the folders and files that have to be readable for it."""

    program: Path
    readable: tuple[Path, ...]


def installed(place: Path, never: Collection[Path]) -> Installed:
    """Gives what the program at `place` needs: its installation, and that of the interpreter that its first line names.

    A folder that is one of `never`, or that one of them lies in, is never among it: of a program right in the home
    folder's `bin` or in `~/.local/bin` only the file is.
    """
    never = [*never, *(each / ".local" for each in never)]
    real = place.resolve()
    own = _prefix(place, never)
    readable = {own or real, _prefix(real, never) or real}
    for interpreter in _interpreters(real):
        target = interpreter.resolve()
        readable |= {_prefix(interpreter, never) or target, _prefix(target, never) or target}
    shown = tuple(sorted(each for each in readable if not any(each.is_relative_to(folder) for folder in _SYSTEM)))
    return Installed(place if own is not None or place == real else real, shown)


def _prefix(path: Path, never: Collection[Path]) -> Path | None:
    """Gives the folder that a program was installed in as a whole, None where that would show too much."""
    parts = path.parts
    if "node_modules" in parts:
        modules = Path(*parts[: parts.index("node_modules") + 1])
        # Beside lib/node_modules lies bin/node; what is beside another node_modules is somebody's project.
        above = modules.parent.parent
        return above if modules.parent.name == "lib" and not _holds(above, never) else modules
    if path.parent.name != "bin" or _holds(path.parent.parent, never):
        return None
    return path.parent.parent


def _holds(folder: Path, never: Collection[Path]) -> bool:
    return any(each.is_relative_to(folder) for each in never)


def _interpreters(program: Path) -> list[Path]:
    """Gives the programs that the first line of a script names."""
    try:
        with program.open("rb") as file:
            line = file.readline(_SHEBANG_BYTES)
    except OSError:
        return []
    words = os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []
    if words and Path(words[0]).name == "env":
        names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        words = [found] if names and (found := shutil.which(names[0])) else []
    return [Path(words[0])] if words and os.path.isabs(words[0]) else []
