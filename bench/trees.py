"""Generated repositories of a given number of files, and changes to their worktrees."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

FILES_PER_FOLDER = 12
FOLDERS_PER_FOLDER = 20


def make_repository(path: Path, files: int) -> Path:
    """Makes a repository with one commit of `files` files of 0.2 to 8 KiB in nested folders; nothing is checked out."""
    path.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "-b", "main", str(path)], check=True)
    with subprocess.Popen(["git", "-C", str(path), "fast-import", "--quiet"], stdin=subprocess.PIPE) as importer:
        assert importer.stdin is not None
        importer.stdin.write(b"commit refs/heads/main\ncommitter bench <bench@localhost> 0 +0000\ndata 5\nfiles\n")
        chance = random.Random(files)
        for number in range(files):
            content = text(chance, number)
            importer.stdin.write(b"M 100644 inline %s\ndata %d\n%s\n" % (name(number).encode(), len(content), content))
    if importer.returncode:
        raise RuntimeError(f"git fast-import ended with {importer.returncode}")
    return path


def name(number: int) -> str:
    """Gives the path of the file with that number."""
    folder = number // FILES_PER_FOLDER
    return f"top{folder % FOLDERS_PER_FOLDER}/mid{folder // FOLDERS_PER_FOLDER % 25}/low{folder}/file{number}.py"


def text(chance: random.Random, number: int) -> bytes:
    """Gives some program-like text, different for each call."""
    lines = [f"def function_{chance.getrandbits(40)}(value):  # {number}\n    return value + {chance.random()}\n"]
    return "".join(lines * chance.randint(2, 80)).encode()


def change(worktree: Path, files: int, count: int, chance: random.Random) -> None:
    """Edits, for more than one change also adds (20 %) and deletes (10 %), `count` files spread over the tree."""
    existing = chance.sample(range(files), min(2 * count, files))
    for turn in range(count):
        kind = turn % 10 if count > 1 else 0
        path = worktree / name(existing[turn])
        if kind == 9 and path.exists():
            path.unlink()
        elif kind >= 7:
            (path.parent / f"new{chance.getrandbits(60)}.py").write_bytes(text(chance, turn))
        else:
            path.write_bytes(text(chance, turn))
