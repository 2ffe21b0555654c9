"""Projects: the git repositories, and folders that are none, that Holdfast works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, select, update

from holdfast.domain.history import EventType
from holdfast.domain.plan import Project
from holdfast.errors import IllegalState, NotFound
from holdfast.store import events
from holdfast.store.paging import Page, before, page
from holdfast.store.rows import by_id, columns_of, entity, next_numbers, one
from holdfast.store.tables import LOCAL_OWNER, projects


def add(connection: Connection, project: Project, *, actor: str, owner_id: str = LOCAL_OWNER) -> Project:
    """Stores a project and gives it its number; raises `IllegalState` if its path or slug is taken."""
    # The number first: its lock makes the two look-ups below see every project there is.
    number = next_numbers(connection, "projects")[0]
    here = (projects.c.home == project.home) & (projects.c.path == project.path)
    for same, value in ((here, project.path), (projects.c.slug == project.slug, project.slug)):
        taken = connection.execute(select(projects.c.slug).where(projects.c.owner_id == owner_id, same))
        if (slug := taken.scalar_one_or_none()) is not None:
            raise IllegalState(f"{value} is already the project '{slug}'", hint="holdfast status", code="exists")
    stored = replace(project, number=number)
    connection.execute(projects.insert().values(**columns_of(stored), owner_id=owner_id))
    events.add(
        connection,
        EventType.SYSTEM,
        "project_added",
        actor,
        project_id=stored.id,
        data={"slug": stored.slug, "path": stored.path},
        owner_id=owner_id,
    )
    return stored


def get(connection: Connection, project_id: str) -> Project:
    """Gives one project; raises `NotFound`."""
    return entity(Project, by_id(connection, projects, project_id, "such project"))


def by_path(connection: Connection, path: str, *, home: str, owner_id: str = LOCAL_OWNER) -> Project:
    """Gives the project of a repository in one data folder; raises `NotFound` with the way to make one."""
    where = (projects.c.owner_id == owner_id, projects.c.home == home, projects.c.path == path)
    query = select(projects).where(*where)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"{path} is not a project yet", hint="holdfast init")
    return entity(Project, row)


def around(connection: Connection, paths: Sequence[str], *, home: str, owner_id: str = LOCAL_OWNER) -> Project | None:
    """Gives the project without git whose folder is the longest of `paths`, None if there is none."""
    where = (projects.c.owner_id == owner_id, projects.c.home == home, projects.c.path.in_(paths), ~projects.c.git)
    rows = connection.execute(select(projects).where(*where)).all()
    return max((entity(Project, row) for row in rows), key=lambda project: len(project.path), default=None)


def by_slug(connection: Connection, slug: str, *, owner_id: str = LOCAL_OWNER) -> Project:
    """Gives the project of that slug; raises `NotFound`."""
    query = select(projects).where(projects.c.owner_id == owner_id, projects.c.slug == slug)
    return entity(Project, one(connection, query, f"project '{slug}'"))


def list_(
    connection: Connection, *, limit: int = 100, cursor: str | None = None, owner_id: str = LOCAL_OWNER
) -> Page[Project]:
    """Gives a page of projects, newest first."""
    query = before(select(projects).where(projects.c.owner_id == owner_id), projects.c.number, cursor, limit)
    found = [entity(Project, row) for row in connection.execute(query)]
    return page(found, limit, lambda project: project.number)


def set_settings(connection: Connection, project_id: str, settings: Mapping[str, object], *, actor: str) -> Project:
    """Replaces a project's settings and tells history; raises `NotFound`."""
    changed = update(projects).where(projects.c.id == project_id).values(settings=settings)
    if connection.execute(changed).rowcount != 1:
        raise NotFound("no such project")
    events.add(connection, EventType.SYSTEM, "project_settings", actor, project_id=project_id, data=settings)
    return get(connection, project_id)
