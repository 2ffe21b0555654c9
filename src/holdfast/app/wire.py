"""Opens the parts that verbs work with; the only place that chooses concrete classes."""

from __future__ import annotations

import getpass
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.engine.places import Places, open_places
from holdfast.errors import Unavailable
from holdfast.settings import Settings, settings
from holdfast.store import Database

if TYPE_CHECKING:
    from holdfast.domain.plan import Plan, Project
    from holdfast.engine.queues import Engine
    from holdfast.engine.workspace import Workspaces
    from holdfast.planner import Drafter
    from holdfast.store import Connection


@dataclass(slots=True)
class House:
    """One data folder with its database. `actor` is who is recorded for what is done through it."""

    settings: Settings
    places: Places
    database: Database
    actor: str
    _engine: Engine | None = field(default=None, repr=False)
    _workspaces: Workspaces | None = field(default=None, repr=False)

    @property
    def engine(self) -> Engine:
        """Starts and wakes plans; made at the first use, since it loads the workflow engine."""
        if self._engine is None:
            from holdfast.engine.queues import Engine

            self._engine = Engine(self.database)
        return self._engine

    def wake(self, connection: Connection, plan: Plan) -> None:
        """Lets the driver of a plan look at the tables again, once the transaction has committed."""
        self.engine.wake_plan(connection, plan.id, plan.run)

    @property
    def workspaces(self) -> Workspaces:
        if self._workspaces is None:
            from holdfast.engine.workspace import Workspaces

            self._workspaces = Workspaces(self.places, self.settings, watch=False)
        return self._workspaces

    def let_go(self) -> None:
        """Gives back the vaults and worktrees that it has open, so that others may have them to themselves."""
        if self._workspaces is not None:
            self._workspaces.close()

    def close(self) -> None:
        if self._workspaces is not None:
            self._workspaces.close()
        if self._engine is not None:
            self._engine.close()
        self.database.close()


@contextmanager
def open_house(given: Settings | None = None, *, actor: str = "", migrate: bool = True) -> Generator[House]:
    """Opens the house that the settings name and closes it at the end; its database is made if it is not there."""
    chosen = given or settings()
    places = open_places(chosen.data)
    database = Database.open(
        chosen.database_url, data=places.data, migrate=migrate, busy_timeout_seconds=chosen.busy_timeout_seconds
    )
    house = House(chosen, places, database, actor or login())
    try:
        yield house
    finally:
        house.close()


def drafter(house: House, project: Project, commit: str, *, model: str = "", agent: str = "") -> Drafter:
    """Gives who drafts and reviews plans: that model, or that agent in a mode that only reads, or else the settings'.

    An agent looks at the project's files at `commit`. Raises `Unavailable` where there is none.
    """
    chosen = house.settings
    if agent:
        return _agent_drafter(house, project, commit, agent)
    if not (model or chosen.planner_model):
        raise Unavailable(
            "no model is set to draft plans with",
            hint="name one: --model anthropic:claude-opus-5, or HOLDFAST_PLANNER_MODEL; its key is read from the "
            "environment, e.g. ANTHROPIC_API_KEY",
            code="planner_missing",
        )
    from holdfast.planner import ModelDrafter

    return ModelDrafter(
        model or chosen.planner_model,
        base_url=chosen.planner_base_url,
        timeout_seconds=chosen.planner_timeout_seconds,
        max_tokens=chosen.planner_max_tokens,
    )


def _agent_drafter(house: House, project: Project, commit: str, agent: str) -> Drafter:
    from holdfast.engine.agent_choice import installed_agent
    from holdfast.engine.agent_drafter import AgentDrafter

    spec = installed_agent(house.settings, agent)
    return AgentDrafter(house.settings, house.places, house.workspaces, project, commit, spec)


def login() -> str:
    """Gives the name of the person who uses this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
