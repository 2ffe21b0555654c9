"""A real repository, a house of its own, and a worker, for tests that run plans."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from holdfast.app import execution, plans, projects, wire
from holdfast.app.plans import PlanView
from holdfast.app.wire import House
from holdfast.domain.plan import Plan, Project
from holdfast.domain.planfile import parse
from holdfast.engine.worker import Worker
from holdfast.settings import Settings
from holdfast.vcs import Vault

DEADLINE_SECONDS = 240


def git(folder: Path, *arguments: str) -> str:
    """Runs git as a user would, in a test's own repository."""
    command = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "README").write_text("hello\n")
    (folder / ".gitignore").write_text("*.secret\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@dataclass
class Bench:
    """A house with one project, and what a test does with it."""

    house: House
    project: Project
    repository: Path

    def start(self, text: str) -> Plan:
        plan = plans.create(self.house, self.project, parse(text, source="plan.yaml"))
        return plans.execute(self.house, plan.id)

    def run(self, text: str) -> PlanView:
        """Runs a plan in a worker of this process until it stops."""
        plan = self.start(text)
        with self.working() as worker:
            return self.until(worker, plan.id)

    def again(self, plan_id: str) -> PlanView:
        """Resumes a plan and runs it until it stops."""
        plans.resume(self.house, plan_id)
        with self.working() as worker:
            return self.until(worker, plan_id)

    def working(self):
        return execution.working(self.house, "run")

    def until(
        self, worker: Worker | None, plan_id: str, reached: Callable[[PlanView], bool] = lambda _: False
    ) -> PlanView:
        deadline = time.monotonic() + DEADLINE_SECONDS
        seen: list[PlanView] = []

        def look(view: PlanView) -> None:
            seen[:] = [view]
            assert time.monotonic() < deadline, f"stuck: {view.plan} {view.tasks}"

        return execution.follow(self.house, worker, plan_id, look, stop_waiting=reached)

    def vault(self) -> Vault:
        return self.house.workspaces.vault(self.project)

    def files(self, branch: str) -> dict[str, str]:
        """Gives the files of a branch of the vault."""
        vault = self.vault()
        names = vault.git(["ls-tree", "-r", "-z", "--name-only", branch]).split(b"\0")
        return {name.decode(): vault.git(["show", f"{branch}:{name.decode()}"]).decode() for name in names if name}

    def subjects(self, branch: str) -> list[str]:
        return self.vault().git(["log", "--format=%s", branch]).decode().splitlines()


def settings(tmp_path: Path, url: str = "") -> Settings:
    return Settings(
        data=tmp_path / "data",
        db=url,
        retry_base_seconds=0.05,
        stop_grace_seconds=20.0,
        answer_seconds=DEADLINE_SECONDS,
        checkpoint_interval_seconds=0,
        sandbox="none",
    )


def opened(chosen: Settings, repository: Path) -> Iterator[Bench]:
    with wire.open_house(chosen, actor="tester") as house:
        yield Bench(house, projects.init(house, repository).project, repository)


@pytest.fixture
def bench(tmp_path: Path, repository: Path) -> Iterator[Bench]:
    """A house on SQLite."""
    yield from opened(settings(tmp_path), repository)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, tmp_path: Path, repository: Path) -> Iterator[Bench]:
    """A house on SQLite, and one on PostgreSQL."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    yield from opened(settings(tmp_path, url), repository)


def statuses(view: PlanView) -> dict[str, str]:
    return {task.key: str(task.status) for task in view.tasks}
