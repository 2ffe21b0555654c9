"""`init`: the repositories that Holdfast works on."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.grammar import verb
from holdfast.cli.session import Session


@verb(
    "init",
    example="""
    holdfast init
    holdfast init ~/src/shop --slug shop --include-ignored '.env*'
    holdfast init --sandbox bubblewrap
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
def init(session: Session, path: Path, slug: str, include_ignored: tuple[str, ...], sandbox: str | None) -> int:
    """Register a git repository as a project.

    Nothing is written into the repository. A second time it says what is registered already.
    """
    from holdfast.app import projects
    from holdfast.cli.render import safe

    with session.house() as house:
        registered = projects.init(house, path, slug=slug, include_ignored=include_ignored, sandbox=sandbox or "")
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
