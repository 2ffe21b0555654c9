"""What an agent does with git in its worktree is on its step, and goes back and forth with a rewind."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.conftest import Bench, git

from holdfast.app import checkpoints, history, rewinds, steps, undo
from holdfast.app.targets import find_checkpoint
from holdfast.domain.history import EventType
from holdfast.errors import NotFound
from holdfast.store import check

OWN = """
title: Own
phases:
  - title: only
    tasks:
      - key: one
        title: One
        run: |
          git config user.name Agent && git config user.email agent@example.org
          git checkout -q -b feature/x && echo 1 > x && git add x && git commit -q -m 'Add x'
          git checkout -q holdfast/own && git merge -q --no-ff -m Join feature/x && echo 2 > y
      - key: two
        title: Two
        run: |
          git status --porcelain > seen
          git branch --format='%(refname:short)' >> seen; git log --format=%s >> seen
"""


def branches(folder: Path) -> dict[str, str]:
    lines = git(folder, "for-each-ref", "--format=%(refname:short) %(objectname)").splitlines()
    return {name: oid for name, _, oid in (line.partition(" ") for line in lines)}


def test_own_commits_and_branches_are_told_and_go_back(bench: Bench) -> None:
    view = bench.run(OWN)
    one = view.tasks[0]
    folder = bench.house.places.project(bench.project.id) / "worktrees" / "own"
    told = steps.get(bench.house, bench.project, 1).step.details["git"]
    assert isinstance(told, dict)
    changes = {change["name"]: change for change in told["changes"]}
    assert [commit["subject"] for commit in changes["feature/x"]["commits"]] == ["Add x"]
    assert [commit["subject"] for commit in changes["holdfast/own"]["commits"]] == ["Join"]
    assert "changes" not in str(steps.get(bench.house, bench.project, 2).step.details)
    seen = (folder / "seen").read_text().splitlines()
    assert seen == ["?? seen", "feature/x", "holdfast/own", "One", "first"], "the next task finds all of it committed"
    page = history.timeline(bench.house, plan_id=view.plan.id, type=EventType.FILE)
    assert [(event.subtype, event.data["step"]) for event in page.items] == [("git", 1)]

    checkpoints.branch(bench.house, one.id, "latest", "theirs", own="feature/x")
    assert git(bench.repository, "log", "-1", "--format=%s", "theirs").strip() == "Add x"
    with pytest.raises(NotFound, match="no branch nothing"):
        checkpoints.branch(bench.house, one.id, "latest", "none", own="nothing")

    now = branches(folder)
    with bench.house.database.read() as connection:
        begun = find_checkpoint(connection, "1", task=one, plan=view.plan)
        ended = find_checkpoint(connection, "2", task=one, plan=view.plan)
    assert rewinds.rewind_task(bench.house, one.id, begun)
    assert branches(folder) == {"holdfast/own": view.plan.base_commit}
    undo.undo(bench.house, plan_id=view.plan.id)
    head = bench.vault().head("holdfast/own")
    assert branches(folder) == {"feature/x": now["feature/x"], "holdfast/own": head}
    assert git(folder, "status", "--porcelain") == ""
    rewinds.rewind_task(bench.house, one.id, ended)
    back = branches(folder)
    assert back["feature/x"] == now["feature/x"]
    assert git(folder, "log", "-1", "--format=%s", "holdfast/own").strip() == "Join"
    assert list(check.check(bench.house.database)) == []
    assert bench.vault().fsck() == []
