"""`init` and `project …`: the repositories and folders that Holdfast works on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from holdfast.cli.grammar import noun, project_option, verb
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.domain.plan import Project

project = noun("project", help="Projects: show them, change their settings.", example="holdfast project show")


@verb(
    "init",
    example="""
    holdfast init
    holdfast init ~/src/shop --slug shop --include-ignored '.env*'
    holdfast init --sandbox bubblewrap
    holdfast init ~/notes --no-git
    """,
)
@click.argument("path", required=False, default=".", type=click.Path(path_type=Path))
@click.option("--slug", default="", metavar="NAME", help="Name of the project (default: that of its folder).")
@click.option(
    "--include-ignored", multiple=True, metavar="GLOB", help="Ignored files that checkpoints keep too; repeatable."
)
@click.option(
    "--sandbox",
    type=click.Choice(["auto", "none", "bubblewrap", "podman", "docker"]),
    default=None,
    help="Where its commands run (default: auto if one works here).",
)
@click.option("--no-git", is_flag=True, help="The folder is no git repository; see docs/without-git.md.")
def init(
    session: Session, path: Path, slug: str, include_ignored: tuple[str, ...], sandbox: str | None, no_git: bool
) -> int:
    """Register a git repository, or a folder without git, as a project.

    Nothing is written into it. A second time it says what is registered already.
    """
    from holdfast.app import projects
    from holdfast.cli.render import safe

    with session.house() as house:
        registered = projects.init(
            house, path, slug=slug, include_ignored=include_ignored, sandbox=sandbox or "", git=not no_git
        )
    if session.json:
        session.document(registered)
        return 0
    project = registered.project
    told = "is registered" if registered.created else "is a project already"
    session.out.print(f"{safe(project.path)} {told} as {project.slug}", soft_wrap=True)
    for note in registered.notes:
        session.note(note)
    session.note("run a plan on it: holdfast run plan.yaml")
    return 0


@project.verb("show", example="holdfast project show")
@project_option
def show(session: Session, project: str) -> int:
    """Show a project and its settings."""
    from holdfast.app import projects

    with session.house() as house:
        found = projects.find(house, project, Path.cwd())
    return _tell(session, found)


@project.verb(
    "set",
    example="""
    holdfast project set agent opencode
    holdfast project set permissions '[{allow: execute, command: "npm test*"}, allow-edits]'
    holdfast project set include_ignored '.env*' '*.key'
    """,
)
@click.argument("key")
@click.argument("values", nargs=-1, required=True, metavar="VALUE...")
@project_option
def set_(session: Session, key: str, values: tuple[str, ...], project: str) -> int:
    """Change a setting: agent, permissions, sandbox or include_ignored."""
    from holdfast.app import projects

    with session.house() as house:
        found = projects.find(house, project, Path.cwd())
        return _tell(session, projects.set_setting(house, found, key, values))


@project.verb("unset", example="holdfast project unset permissions")
@click.argument("key")
@project_option
def unset(session: Session, key: str, project: str) -> int:
    """Take a setting away: what the environment says counts again."""
    from holdfast.app import projects

    with session.house() as house:
        found = projects.find(house, project, Path.cwd())
        return _tell(session, projects.set_setting(house, found, key, ()))


def _tell(session: Session, found: Project) -> int:
    from holdfast.cli.render import facts, say
    from holdfast.cli.render import show as show_

    if session.json:
        session.document(found)
        return 0
    say(session.out, f"{found.slug}  {found.path}", style="bold")
    show_(session.out, facts([(f"  {key}", _shown(value)) for key, value in sorted(found.settings.items())]))
    return 0


def _shown(value: object) -> str:
    return "\n".join(map(_shown, cast("list[object]", value))) if isinstance(value, list) else str(value)
