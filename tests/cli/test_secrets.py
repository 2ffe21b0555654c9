"""A canary: no secret that passes through a run is left in anything that Holdfast keeps."""

from __future__ import annotations

import base64
import os
import signal
from pathlib import Path

import zstandard
from tests.agents.runs import eventually
from tests.cli.conftest import Program, git

CANARY = 'correct-horse"battery\\staple-51f4'
KNOWN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
PLAN = """
title: Tell secrets
variables: {DB_PASSWORD: swordfish-and-chips}
phases:
  - title: Only
    tasks:
      - title: Tell
        max_attempts: 1
        run: |
          printf '%s' "$CANARY_TOKEN" | cut -c1-12 | tr -d '\\n'; sleep 0.5; printf '%s' "$CANARY_TOKEN" | cut -c13-
          printf '%s' "$CANARY_TOKEN" >&2
          printf 'x%s' "$CANARY_TOKEN" | base64 -w0
          printf '{"key": "%s"}\\n' "$CANARY_JSON"
          echo "$KNOWN_ONE" {{ DB_PASSWORD }}
          printf '%s' "$CANARY_TOKEN" > kept.txt
          while [ ! -e "$HOME/go" ]; do sleep 0.1; done
        verify: ['echo "failed with $CANARY_TOKEN"; exit 3']
"""


def everything(data: Path) -> dict[str, bytes]:
    """Gives the content of all that Holdfast keeps: files, blobs, commits and refs; not the task's own worktree."""
    found: dict[str, bytes] = {}
    for path in data.rglob("*"):
        inner = path.relative_to(data).parts
        if path.is_file() and "worktrees" not in inner and "objects" not in inner:
            found["/".join(inner)] = path.read_bytes()
    for name in [name for name in found if name.startswith("blobs/")]:
        found[name] = zstandard.ZstdDecompressor().decompressobj().decompress(found[name])
    for vault in data.glob("projects/*/vault.git"):
        names = git(vault, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)")
        for kind, name in (line.split() for line in names.splitlines()):
            if kind != "blob":
                found[f"{kind} {name}"] = git(vault, "cat-file", "-p", name).encode()
        found["refs"] = git(vault, "for-each-ref").encode()
    return found


def leaks(data: Path) -> list[str]:
    forms = [CANARY, CANARY.replace("\\", "\\\\").replace('"', '\\"'), KNOWN, "swordfish-and-chips"]
    forms += [base64.b64encode(f"x{CANARY}".encode()).decode()[4:-4], CANARY[13:]]
    found = everything(data)
    assert any(name.endswith("journal.jsonl") for name in found)
    return [f"{form!r} in {name}" for name, content in found.items() for form in forms if form.encode() in content]


def test_a_secret_that_a_run_tells_is_nowhere_in_what_is_kept(ready: Program) -> None:
    ready.environment |= {
        "HOME": str(ready.home),
        "CANARY_TOKEN": CANARY,
        "CANARY_JSON": CANARY.replace("\\", "\\\\").replace('"', '\\"'),
        "KNOWN_ONE": KNOWN,
        "HOLDFAST_COMMAND_ENVIRONMENT": "PATH,HOME,CANARY_TOKEN,CANARY_JSON,KNOWN_ONE",
    }
    worker = ready.start("run", ready.plan(PLAN))

    def told() -> bool:
        assert worker.poll() is None, worker.communicate()
        journals = ready.data.glob("runs/*/command-0/journal.jsonl")
        return any("redacted:DB_PASSWORD" in path.read_text() for path in journals)

    eventually(told)
    assert (ready.data / "holdfast.db-wal").stat().st_size > 0
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    # The values of the plan's variables are in the plan itself: what a person wrote there is content.
    assert [leak for leak in leaks(ready.data) if "swordfish" not in leak or "runs/" in leak] == []

    (ready.home / "go").touch()
    ready("resume", "P1")
    log = ready("step", "log", "1").out
    assert log.count("[redacted:CANARY_TOKEN]") >= 4
    assert '{"key": "[redacted:CANARY_TOKEN]"}' in log
    assert "[redacted:github_token] [redacted:DB_PASSWORD]" in log
    assert "failed with [redacted:CANARY_TOKEN]" in ready("task", "show", "T1").out
    assert [leak for leak in leaks(ready.data) if "swordfish" not in leak or "runs/" in leak] == []
