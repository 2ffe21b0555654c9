"""`token …`: what lets programs and agents in."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import noun, page_options
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from rich.table import Table

    from holdfast.domain.token import Token

SCOPES = ("read", "run", "admin", "worker", "plan", "task")
_UNITS = {"h": "hours", "d": "days", "m": "minutes"}

token = noun(
    "token", help="Tokens: let programs and agents in, and out again.", example="holdfast token create plan P3"
)


@token.verb(
    "create",
    example="""
    holdfast token create plan P3 --name supervisor --expires 7d
    holdfast token create read --name dashboard
    """,
)
@click.argument("scope", type=click.Choice(SCOPES), metavar="SCOPE")
@click.argument("subject", metavar="[PLAN | TASK]", default="")
@click.option("--name", default="", metavar="NAME", help="What it is for.")
@click.option("--expires", default="", metavar="TIME", help="For how long it is good, e.g. 30m, 12h, 7d.")
def create(session: Session, scope: str, subject: str, name: str, expires: str) -> int:
    """Make a token and show it, once.

    SCOPE is read, run, admin or worker, or one that is bound: plan P3, task T7.
    """
    from holdfast.app import tokens
    from holdfast.domain.token import TokenScope

    with session.house() as house:
        made = tokens.create(house, TokenScope(scope), name=name, reference=subject, expires_in=_time(expires))
    if session.json:
        session.document(made)
    else:
        session.out.print(made.secret, soft_wrap=True)
        session.note(f"K{made.token.number}; it is shown only now, keep it: export HOLDFAST_TOKEN=…")
    return 0


def _time(text: str) -> timedelta | None:
    if not text:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no time; e.g. 30m, 12h, 7d", param_hint="--expires")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@token.verb("list", example="holdfast token list --all")
@click.option("--all", "revoked", is_flag=True, help="Revoked ones too.")
@page_options(50)
def list_(session: Session, revoked: bool, limit: int, cursor: str) -> int:
    """List tokens, newest first; their secrets are not kept."""
    from holdfast.app import tokens
    from holdfast.cli.render import say, show

    with session.house() as house:
        page = tokens.list_(house, revoked=revoked, limit=limit, cursor=cursor)
    if session.json:
        session.document(page)
    elif page.items:
        show(session.out, _table(page.items))
        session.more(page.next_cursor)
    else:
        say(session.out, "no tokens")
    return 0


def _table(items: tuple[Token, ...]) -> Table:
    from holdfast import clock
    from holdfast.cli.render import table, when

    now = clock.now()
    rows = [
        (
            f"K{each.number}",
            str(each.scope),
            each.name,
            when(each.created_at),
            each.created_by,
            when(each.last_used_at),
            each.refusal(now) or "good",
        )
        for each in items
    ]
    return table(["token", "scope", "name", "made", "by", "last used", "state"], rows)


@token.verb("revoke", example="holdfast token revoke K3")
@click.argument("subject", metavar="TOKEN")
def revoke(session: Session, subject: str) -> int:
    """Make a token useless from now on."""
    from holdfast.app import tokens
    from holdfast.cli.render import say

    with session.house() as house:
        revoked = tokens.revoke(house, subject)
    if session.json:
        session.document(revoked)
    else:
        say(session.out, f"K{revoked.number} is revoked")
    return 0
