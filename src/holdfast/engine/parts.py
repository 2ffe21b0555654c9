"""What work outside of a task needs of the process that it is done in: a worker, or a command."""

from __future__ import annotations

from typing import Protocol

from holdfast.engine.places import Places
from holdfast.engine.workspace import Workspaces
from holdfast.settings import Settings
from holdfast.store import Database


class Parts(Protocol):
    """The house that verbs work in, or the runtime of a worker. `actor` is who is recorded for what is done."""

    @property
    def database(self) -> Database: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def places(self) -> Places: ...

    @property
    def workspaces(self) -> Workspaces: ...

    @property
    def actor(self) -> str: ...
