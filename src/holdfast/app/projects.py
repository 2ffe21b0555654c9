"""Projects: the git repositories, and folders that are none, that Holdfast works on."""

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
from holdfast.engine.workspace import plain_limits
from holdfast.errors import IllegalState, NotFound, Unavailable, UsageError, UserError
from holdfast.sandbox import SandboxName, choose
from holdfast.store import Connection, projects
from holdfast.vcs import RepositoryState, has_repository, inspect, not_in_snapshot, resolve, survey

# So many empty folders are named to who registers a folder.
_EMPTY_NAMED = 3
SETTINGS = ("agent", "permissions", "sandbox", "include_ignored")


@dataclass(frozen=True, slots=True)
class Registered:
    """A project and whether this call made it; `notes` tell what a person should know of its repository."""

    project: Project
    created: bool
    notes: tuple[str, ...]


def init(
    house: House,
    path: Path,
    *,
    slug: str = "",
    include_ignored: Sequence[str] = (),
    sandbox: str = "",
    git: bool = True,
) -> Registered:
    """Registers the repository at `path` (or above it) as a project; a second time it gives the same one.

    With `git` False it registers the folder itself, which must not be in a repository. `include_ignored` are globs of
    ignored files that checkpoints keep too; given, they replace those it has. `sandbox` is where its commands run. A
    new project that names none gets `auto`, and `none` where nothing works on this machine, with a note that says so.
    Raises `Unavailable` for one that does not work here.
    """
    root, default_branch, known = _repository(path) if git else _plain(house, path)
    wanted: dict[str, object] = {"include_ignored": list(include_ignored)} if include_ignored else {}
    if sandbox:
        choose(sandbox, image=house.settings.sandbox_image)
        wanted[confine.SETTING] = sandbox
    suited, told = ({}, ()) if sandbox else _suited(house)
    with house.database.transaction() as connection:
        try:
            found = projects.by_path(connection, str(root), home=house.places.home)
        except NotFound:
            project = Project(
                id=clock.new_id(),
                number=0,
                slug=_free_slug(connection, slug or slug_of(root.name), given=bool(slug)),
                path=str(root),
                home=house.places.home,
                default_branch=default_branch,
                settings={**suited, **wanted},
                created_at=clock.now(),
                git=git,
            )
            return Registered(projects.add(connection, project, actor=house.actor), True, (*known, *told))
        if wanted:
            kept = {**found.settings, **wanted}
            found = projects.set_settings(connection, found.id, kept, actor=house.actor)
        return Registered(found, False, known)


def _repository(path: Path) -> tuple[Path, str, tuple[str, ...]]:
    state = inspect(path)
    return state.root, state.default_branch, notes(state)


def _plain(house: House, path: Path) -> tuple[Path, str, tuple[str, ...]]:
    """Gives a folder that may be a project without git, and what to know of it; raises `UserError` if it may not."""
    root = path.resolve()
    if not root.is_dir():
        raise NotFound(f"there is no folder {root}", hint="give the path of a folder")
    if has_repository(root):
        raise UserError(
            f"{root} is in a git repository", hint="register that: holdfast init, without --no-git", code="has_git"
        )
    data = house.places.data.resolve()
    if root in (Path("/"), Path.home().resolve()) or root in (data, *data.parents) or data in root.parents:
        raise UserError(
            f"{root} is too much: it is the root, your home, or around or inside Holdfast's data folder",
            hint="make a folder for the project, or name another data folder with --data",
            code="folder_too_wide",
        )
    found = survey(root, plain_limits(house.settings))
    known = [f"{found.files:,} files, {found.bytes / (1 << 20):,.1f} MiB: each plan starts from a snapshot of them"]
    known += [f"of the git repository {name} in it the files are kept, not the history" for name in found.nested]
    if found.empty:
        more = ", …" if len(found.empty) > _EMPTY_NAMED else ""
        known.append(f"empty folders are not kept: {', '.join(found.empty[:_EMPTY_NAMED])}{more}")
    return root, "", tuple(known)


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


def notes_of(house: House, project: Project) -> tuple[str, ...]:
    """Gives what a person should know of a project's repository now, or of the snapshot of its folder."""
    if project.git:
        return notes(inspect(Path(project.path)))
    lacking = not_in_snapshot(house.workspaces.vault(project))
    return tuple(f"not in the snapshot, too large or not readable: {name}" for name in lacking)


def unconfined(house: House, project: Project) -> bool:
    """Says whether the project's commands run as the user, with all the user's rights."""
    return confine.asked(house.settings, project) == SandboxName.NONE


def of_folder(house: House, path: Path) -> Project:
    """Gives the project that `path` is in: a repository, a folder without git that is nearer, or a plan's worktree.

    Raises `NotFound` if it is not registered.
    """
    here = path.resolve()
    own = _of_worktree(house, here)
    if own is not None:
        return own
    root, outside = None, NotFound(f"{here} is not a project yet", hint="register it: holdfast init --no-git")
    try:
        root = inspect(path).root
    except UserError as error:
        outside = error
    with house.database.read() as connection:
        folders = [str(each) for each in (here, *here.parents) if root is None or each.is_relative_to(root)]
        plain = projects.around(connection, folders, home=house.places.home)
        if plain is not None:
            return plain
        if root is None:
            raise outside
        try:
            return projects.by_path(connection, str(root), home=house.places.home)
        except NotFound as error:
            hint = "register it: holdfast init; or name another one: --project SLUG"
            raise NotFound(f"{root} is not a project yet", hint=hint) from error


def _of_worktree(house: House, here: Path) -> Project | None:
    """Gives the project whose own part of the data folder, with the worktrees of its plans, `here` lies in."""
    projects_folder = house.places.data.resolve() / "projects"
    if not here.is_relative_to(projects_folder) or here == projects_folder:
        return None
    with house.database.read() as connection:
        return projects.get(connection, here.relative_to(projects_folder).parts[0])


def find(house: House, reference: str, path: Path) -> Project:
    """Gives the project with the slug `reference`, or without one that of the folder `path`, or the only one.

    In a repository that is not registered it is not the only one: who stands there means that repository.
    """
    if reference:
        with house.database.read() as connection:
            return projects.by_slug(connection, reference)
    try:
        return of_folder(house, path)
    except NotFound:
        raise
    except UserError:
        with house.database.read() as connection:
            everyone = projects.list_(connection).items
        if len(everyone) == 1:
            return everyone[0]
        raise


def list_(house: House) -> tuple[Project, ...]:
    with house.database.read() as connection:
        return tuple(projects.list_(connection, limit=1000).items)


def start_commit(house: House, project: Project, base: str) -> str:
    """Gives the commit that a plan of `project` starts from: `base`, or the present commit of the checkout.

    For a project without git that is a snapshot of its folder, made now; `base` is one before, or a plan's branch.
    """
    if not project.git:
        if base:
            return house.workspaces.bring(project, base)
        with house.workspaces.folder(project) as folder:
            return folder.commit(clock.now())
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
