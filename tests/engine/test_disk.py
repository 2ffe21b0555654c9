"""The disk of the data folder is full while a plan runs: nobody's failure, and the work goes on once there is space."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.conftest import Bench, opened, settings
from tests.vcs.test_disk import fill

from holdfast.app import database, plans
from holdfast.domain.transitions import PlanStatus, TaskStatus
from holdfast.errors import InfraError


@pytest.fixture
def small(tmp_path: Path, repository: Path) -> Iterator[Bench]:
    """A house whose data folder is a file system of 32 MiB of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield from opened(settings(tmp_path), repository)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_full_fails_no_task_and_the_step_goes_on_once_there_is_space(
    small: Bench, tmp_path: Path
) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    command = f"head -c 300000 /dev/urandom > noise; touch {ready}; while test ! -f {go}; do sleep 0.05; done"
    plan = small.start(f"title: T\nphases: [{{title: p, tasks: [{{title: t, run: '{command}'}}]}}]")
    with small.working() as worker:
        small.until(worker, plan.id, lambda _: ready.exists())
        filler = fill(tmp_path / "data")
        go.touch()
        with pytest.raises(InfraError, match=r"full|No space") as caught:
            small.until(worker, plan.id)
    assert "space" in caught.value.hint
    view = plans.show(small.house, plan.id)
    assert (view.plan.status, view.tasks[0].status) == (PlanStatus.RUNNING, TaskStatus.RUNNING)
    filler.unlink()
    with small.working() as worker:
        view = small.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert [(step.number, step.attempt, step.failure) for step in view.steps] == [(1, 1, None)]
    assert list(database.examine(small.house)) == []
