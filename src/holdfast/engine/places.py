"""Where things lie in the data folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from holdfast import clock
from holdfast.domain.plan import Plan
from holdfast.domain.task import Task
from holdfast.errors import InfraError


@dataclass(frozen=True, slots=True)
class Places:
    """Names every folder below the data folder `data`; `home` is that folder's own id."""

    data: Path
    home: str

    def project(self, project_id: str) -> Path:
        return self.data / "projects" / project_id

    def vault(self, project_id: str) -> Path:
        return self.project(project_id) / "vault.git"

    def plan_worktree(self, plan: Plan) -> Path:
        return self.project(plan.project_id) / "worktrees" / plan.slug

    def task_worktree(self, plan: Plan, task: Task) -> Path:
        return self.project(plan.project_id) / "worktrees" / f"{plan.slug}--{task.key}"

    def task_home(self, plan: Plan, task: Task | None) -> Path:
        """Gives the HOME of a task's confined commands and agents, or of the plan's own checks; it is kept."""
        name = plan.slug if task is None else f"{plan.slug}--{task.key}"
        return self.project(plan.project_id) / "homes" / name

    def run(self, owner_id: str, name: str) -> Path:
        """Gives the folder of one launched command; `owner_id` is its step (or its plan, for the plan's own checks)."""
        return self.data / "runs" / owner_id / name

    def runs(self, owner_id: str) -> list[Path]:
        """Gives the folders of all that was launched for a step so far."""
        return list((self.data / "runs" / owner_id).glob("*"))

    def draft(self, name: str) -> Path:
        """Gives the folder of one question to an agent that drafts plans; it is removed after its answer."""
        return self.data / "drafts" / name

    def supervisor(self, plan_id: str) -> Path:
        """Gives the folder of a plan's supervisor: the files that it reads, its HOME, the lock of who asks it."""
        return self.data / "supervisors" / plan_id

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"


def open_places(data: Path) -> Places:
    """Gives the places of the data folder `data`, which is made, with an id of its own, if it is not there."""
    data = data.expanduser().absolute()
    name = data / "home"
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not name.exists():
            _write_home(name)
        home = name.read_text("ascii").strip()
    except OSError as error:
        raise InfraError(
            f"the data folder {data} cannot be used: {error.strerror}",
            hint="make it writable, or name another with HOLDFAST_DATA",
            code="data_folder",
        ) from error
    return Places(data, home)


def _write_home(name: Path) -> None:
    """Writes a new id so that of two processes that do it at once one wins and both read the same."""
    draft = name.with_name(f".home-{os.getpid()}")
    with draft.open("w", encoding="ascii") as file:
        file.write(clock.new_id())
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, name)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
