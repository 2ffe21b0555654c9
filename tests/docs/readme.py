"""The README as a program: its marked blocks, and a shell that runs them in order.

A fenced block is marked by the comment on the line above it: `<!-- run: in a repository -->` or `<!-- run: demo -->`
for commands, `<!-- file: plan.yaml -->` for a file that they need.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
_BLOCK = re.compile(r"^<!-- (run|file): (.+?) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LIMIT_SECONDS = 540

# A person waits until the task sleeps before they kill its worker; so does the shell, by what `run` has printed.
_UNTIL_T2_RUNS = 'for _ in $(seq 1200); do grep -q "T2 .* started" "$OUTPUT" && break; sleep 0.1; done'


def blocks(kind: str, name: str) -> list[str]:
    """Gives the contents of the README's marked blocks of one kind and name, in their order."""
    found = _BLOCK.findall(README.read_text(encoding="utf-8"))
    return [text for its_kind, its_name, text in found if (its_kind, its_name) == (kind, name)]


def commands(name: str) -> list[str]:
    """Gives the command lines of the blocks that are marked to be run under `name`."""
    return [line[2:] for text in blocks("run", name) for line in text.splitlines() if line.startswith("$ ")]


def perform(lines: list[str], folder: Path, home: Path) -> str:
    """Runs the lines in one shell, as typed one after the other; gives all output, fails at the first that fails."""
    script = ["set -e"]
    for line in lines:
        if line.startswith("kill "):
            script += [_UNTIL_T2_RUNS, line, "wait || true"]
        else:
            script += [f"echo '$ {line}'", line]
    output = home / "output.txt"
    with output.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=folder,
            env=_environment(home) | {"OUTPUT": str(output)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=_LIMIT_SECONDS,
        )
    said = output.read_text(encoding="utf-8")
    assert done.returncode == 0, said
    return said


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=Reader", "-c", "user.email=reader@localhost"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def _environment(home: Path) -> dict[str, str]:
    programs = Path(sys.executable).parent
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    return kept | {"HOME": str(home), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb"}
