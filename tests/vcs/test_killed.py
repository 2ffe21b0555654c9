"""SIGKILL between any two durable effects: the same call, made again, gives what an uninterrupted run gives."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.vcs.places import TIME, make_place, make_repository, open_place

OF_RETENTION = {"vcs.worktree.doomed", "vcs.worktree.moved_away", "vcs.sweep.packed", "vcs.sweep.pack_dropped"}
"""Killed at in tests/engine/test_retention.py."""
ROOT = Path(__file__).parent.parent.parent
FILES = {".gitignore": "*.key\n", "README.md": "hello\n", "src/app.py": "print(1)\n", "old/a": "a", "old/b": "b"}
POINTS = [
    "vcs.vault.built",
    "vcs.vault.renamed",
    "vcs.fetch.objects_written",
    "vcs.worktree.checked_out",
    "vcs.worktree.noted",
    "vcs.worktree.renamed",
    "vcs.worktree.synced",
    "vcs.snapshot.hashed:2",
    "vcs.scan.cached",
    "vcs.pack.flushed",
    "vcs.pack.without_index",
    "vcs.pack.without_index:2",
    "vcs.checkpoint.objects_written",
    "vcs.checkpoint.ref_written",
    "vcs.branch.objects_written",
    "vcs.branch.moved",
    "vcs.restore.deleted:2",
    "vcs.restore.file_written",
    "vcs.restore.file_written:3",
    "vcs.restore.written:2",
    "vcs.ignored.written",
    "vcs.ignored.written:2",
    "vcs.folder.recorded",
    "vcs.folder.recorded:2",
    "vcs.folder.written",
    "vcs.folder.written:2",
    "vcs.restore.file_written:12",
    "store.blob.before_rename",
    "store.blob.after_rename:2",
    "vcs.export.objects_written",
    "vcs.own.copied",
    "vcs.own.index_known",
    "vcs.own.index_written:3",
    "vcs.own.index_lent",
    "vcs.own.index_changed",
    "vcs.own.index_set",
    "vcs.own.rest_set:2",
    "vcs.own.refs_set",
    "vcs.own.in_place:2",
    "vcs.own.made",
    "vcs.own.moved_away",
]
# Those whose first pass is killed at too, more than once a name: the long run has them.
LATER = [point for point in POINTS if ":" in point and point.partition(":")[0] in POINTS]
AT_FIRST = [point for point in POINTS if point not in LATER]


def start(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "tests.vcs.scenario", str(folder)]
    return subprocess.Popen(line, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE)


def finish(folder: Path) -> dict[str, object]:
    with start(folder) as process:
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 0
    return json.loads(output)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], set[str]]:
    """What comes of the job when nobody kills it, and the failpoints that it passes."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    make_repository(folder / "repository", FILES)
    log = folder / "passed"
    with start(folder, HOLDFAST_FAILPOINT_LOG=str(log)) as process:
        assert process.stdout is not None
        result = json.loads(process.stdout.read())
    assert result["problems"] == []
    assert result["leftovers"] == []
    assert result["own"] == ["refs/heads/holdfast/plan", "own all of it Agent"]
    assert result["back"] == {name: ["f", content] for name, content in FILES.items()}
    return without_commits(result), set(log.read_text().split())


def without_commits(result: dict[str, object]) -> dict[str, object]:
    """The user's first commit has the time of its making, so ids differ between two runs; all else must be equal."""
    refs = result["refs"]
    assert isinstance(refs, dict)
    named = [re.sub("/own/(.*)/[0-9a-f]+$", r"/own/\1", name) for name in refs if "/base/" not in name]
    return {**result, "refs": sorted(named), "exported": None}


def test_every_failpoint_of_the_room_is_killed_at(uninterrupted: tuple[dict[str, object], set[str]]) -> None:
    sources = [*(ROOT / "src/holdfast/vcs").glob("*.py"), ROOT / "src/holdfast/store/blobs.py"]
    written = {
        part.split('"')[1] for path in sources for part in path.read_text().split("failpoint(")[1:] if '"' in part[:3]
    }
    assert {point.partition(":")[0] for point in POINTS} == written - OF_RETENTION
    assert uninterrupted[1] == written - OF_RETENTION


@pytest.mark.parametrize("point", [*AT_FIRST, *(pytest.param(each, marks=pytest.mark.campaign) for each in LATER)])
def test_killed_at_a_failpoint_and_run_again(
    point: str, tmp_path: Path, uninterrupted: tuple[dict[str, object], set[str]]
) -> None:
    make_repository(tmp_path / "repository", FILES)
    with start(tmp_path, HOLDFAST_FAILPOINT=point) as process:
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert without_commits(finish(tmp_path)) == uninterrupted[0]


def test_killed_at_random_times_and_run_again(
    tmp_path: Path, uninterrupted: tuple[dict[str, object], set[str]]
) -> None:
    make_repository(tmp_path / "repository", FILES)
    chance = random.Random(os.environ.get("HOLDFAST_TEST_SEED", "1"))
    for _ in range(int(os.environ.get("HOLDFAST_TEST_KILLS", "6"))):
        with start(tmp_path) as process:
            time.sleep(chance.uniform(0.1, 1.2))
            process.kill()
    assert without_commits(finish(tmp_path)) == uninterrupted[0]


def test_what_a_killed_process_had_hashed_but_not_written_is_read_again(tmp_path: Path) -> None:
    """A cache that is more durable than the blobs which it names would make a checkpoint with missing files."""
    place = make_place(tmp_path, FILES)
    looked = """
import os, sys, time
from pathlib import Path
from tests.vcs.places import open_place
worktree = open_place(Path(sys.argv[1]), Path(sys.argv[1]) / "repository").worktree()
(worktree.path / "new").write_text("not in the vault yet")
time.sleep(0.1)
worktree.snapshot(full=True)
os.kill(os.getpid(), 9)
"""
    place.vault.close()
    died = subprocess.run([sys.executable, "-c", looked, str(tmp_path)], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    again = open_place(tmp_path, tmp_path / "repository")
    with again.worktree() as worktree:
        tree = worktree.snapshot(full=True).tree
    again.vault.write_checkpoint("refs/holdfast/checkpoints/t/1", tree, (), "checkpoint", TIME)
    assert again.vault.fsck() == []
    assert again.vault.git(["cat-file", "blob", f"{tree}:new"]) == b"not in the vault yet"
