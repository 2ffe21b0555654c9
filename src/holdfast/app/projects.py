"""Projects: the git repositories that Holdfast works on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast import clock
from holdfast.agents import catalog
from holdfast.app.wire import House
from holdfast.domain import permissions, planfile
from holdfast.domain.plan import Project
from holdfast.domain.words import did_you_mean
from holdfast.engine import confine
from holdfast.errors import IllegalState, NotFound, Unavailable, UsageError, UserError
from holdfast.sandbox import SandboxName, choose
from holdfast.store import Connection, projects
from holdfast.vcs import RepositoryState, inspect, resolve

SETTINGS = ("agent", "permissions", "sandbox", "include_ignored")


@dataclass(frozen=True, slots=True)
class Registered:
    """A project and whether this call made it; `notes` tell what a person should know of its repository."""

    project: Project
    created: bool
    notes: tuple[str, ...]


def init(
    house: House, path: Path, *, slug: str = "", include_ignored: Sequence[str] = (), sandbox: str = ""
) -> Registered:
    """Registers the repository at `path` (or above it) as a project; a second time it gives the same one.

    `include_ignored` are globs of ignored files that checkpoints keep too; given, they replace those it has.
    `sandbox` is where its commands run. A new project that names none gets `auto`, and `none` where nothing works on
    this machine, with a note that says so. Raises `Unavailable` for one that does not work here.
    """
    state = inspect(path)
    root = str(state.root)
    wanted: dict[str, object] = {"include_ignored": list(include_ignored)} if include_ignored else {}
    if sandbox:
        choose(sandbox, image=house.settings.sandbox_image)
        wanted[confine.SETTING] = sandbox
    suited, told = ({}, ()) if sandbox else _suited(house)
    with house.database.transaction() as connection:
        try:
            found = projects.by_path(connection, root, home=house.places.home)
        except NotFound:
            project = Project(
                id=clock.new_id(),
                number=0,
                slug=_free_slug(connection, slug or slug_of(state.root.name), given=bool(slug)),
                path=root,
                home=house.places.home,
                default_branch=state.default_branch,
                settings={**suited, **wanted},
                created_at=clock.now(),
            )
            return Registered(projects.add(connection, project, actor=house.actor), True, (*notes(state), *told))
        if wanted:
            kept = {**found.settings, **wanted}
            found = projects.set_settings(connection, found.id, kept, actor=house.actor)
        return Registered(found, False, notes(state))


def _suited(house: House) -> tuple[dict[str, object], tuple[str, ...]]:
    """Gives the sandbox setting of a new project on this machine, and what a person should know of it."""
    try:
        choose(SandboxName.AUTO, image=house.settings.sandbox_image)
    except Unavailable as error:
        told = f"{error.message}; commands of this project will run as you, unconfined"
        return {confine.SETTING: str(SandboxName.NONE)}, (told, "to confine them: holdfast init --sandbox auto")
    return {confine.SETTING: str(SandboxName.AUTO)}, ()


def slug_of(name: str) -> str:
    """Gives a name of a-z, 0-9 and dashes for any text, at most 60 characters."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-") or "project"


def notes(state: RepositoryState) -> tuple[str, ...]:
    """Gives what a person should know of the repository before a plan runs on it."""
    found: list[str] = []
    if state.head_commit is None:
        found.append("the repository has no commit yet: make one before running a plan")
    if state.dirty:
        found.append("uncommitted changes stay in your checkout: plans start from the last commit")
    return tuple(found)


def notes_of(project: Project) -> tuple[str, ...]:
    """Gives what a person should know of a project's repository now."""
    return notes(inspect(Path(project.path)))


def unconfined(house: House, project: Project) -> bool:
    """Says whether the project's commands run as the user, with all the user's rights."""
    return confine.asked(house.settings, project) == SandboxName.NONE


def of_folder(house: House, path: Path) -> Project:
    """Gives the project of the repository that `path` is in; raises `NotFound` if it is not registered."""
    state = inspect(path)
    with house.database.read() as connection:
        try:
            return projects.by_path(connection, str(state.root), home=house.places.home)
        except NotFound as error:
            raise NotFound(f"{state.root} is not a project yet", hint="register it: holdfast init") from error


def find(house: House, reference: str, path: Path) -> Project:
    """Gives the project with the slug `reference`, or without one that of the folder `path`, or the only one."""
    if reference:
        with house.database.read() as connection:
            return projects.by_slug(connection, reference)
    try:
        return of_folder(house, path)
    except UserError:
        with house.database.read() as connection:
            everyone = projects.list_(connection).items
        if len(everyone) == 1:
            return everyone[0]
        raise


def list_(house: House) -> tuple[Project, ...]:
    with house.database.read() as connection:
        return tuple(projects.list_(connection, limit=1000).items)


def start_commit(project: Project, base: str) -> str:
    """Gives the commit that a plan of `project` starts from: `base`, or the present commit of the checkout."""
    state = inspect(Path(project.path))
    if base:
        return resolve(state.root, base)
    if state.head_commit is None:
        raise IllegalState(
            f"the repository {project.path} has no commit yet",
            hint="commit something first: git commit --allow-empty -m start",
            code="empty_repository",
        )
    if state.operation:
        raise IllegalState(
            f"a {state.operation} is in progress in {project.path}",
            hint=f"finish or abort it, or say where to start: --base {state.head_commit[:12]}",
            code="repository_busy",
        )
    return state.head_commit


def _free_slug(connection: Connection, slug: str, *, given: bool) -> str:
    taken = {project.slug for project in projects.list_(connection, limit=1000).items}
    if slug not in taken:
        return slug
    if given:
        raise UserError(f"another project has the slug {slug!r}", hint="choose another: holdfast init --slug NAME")
    return next(name for n in range(2, len(taken) + 3) if (name := f"{slug}-{n}") not in taken)


def set_setting(house: House, project: Project, key: str, values: Sequence[str]) -> Project:
    """Gives a project a setting, or takes it away where there are no values; plans that run see it at their next look.

    Raises `UsageError`, `NotFound` or `Unavailable` for a value that cannot be one here.
    """
    if key not in SETTINGS:
        raise UsageError(f"a project has no setting {key!r}", hint=did_you_mean(key, SETTINGS))
    kept = {name: value for name, value in project.settings.items() if name != key}
    if values:
        kept[key] = _setting(house, key, values)
    with house.database.transaction() as connection:
        return projects.set_settings(connection, project.id, kept, actor=house.actor)


def _setting(house: House, key: str, values: Sequence[str]) -> object:
    if key == "include_ignored":
        return list(values)
    if len(values) != 1:
        raise UsageError(f"{key} takes one value", hint=f"holdfast project set {key} VALUE")
    match key:
        case "agent":
            catalog.named(house.settings, values[0])
            return values[0]
        case "sandbox":
            choose(values[0], image=house.settings.sandbox_image)
            return values[0]
        case _:
            return permissions.plain(planfile.policy(values[0]))
