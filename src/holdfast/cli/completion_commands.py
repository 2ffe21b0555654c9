"""`completion`: what a shell needs to complete our commands."""

from __future__ import annotations

import click

from holdfast.cli.grammar import verb
from holdfast.cli.session import Session


@verb(
    "completion",
    example="""
    source <(holdfast completion bash)
    holdfast completion fish > ~/.config/fish/completions/holdfast.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(session: Session, shell: str) -> int:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from holdfast.cli.program import holdfast

    made = get_completion_class(shell)
    assert made is not None
    script = made(holdfast, {}, "holdfast", "_HOLDFAST_COMPLETE").source()
    if session.json:
        session.document({"shell": shell, "script": script})
    else:
        session.write(f"{script.rstrip()}\n", None)
    return 0
