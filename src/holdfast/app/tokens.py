"""Tokens: made and revoked by people, shown by programs and agents; and what the bearer of one reaches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from holdfast import clock
from holdfast.app.wire import House
from holdfast.domain.token import Token, TokenScope, Tool
from holdfast.errors import IllegalState, NotFound, UsageError
from holdfast.store import Page, plans, tasks, tokens


@dataclass(frozen=True, slots=True)
class Made:
    """A new token with its secret, which can be seen only now."""

    token: Token
    secret: str


def create(
    house: House, scope: TokenScope, *, name: str = "", reference: str = "", expires_in: timedelta | None = None
) -> Made:
    """Makes a token; `reference` names the plan or task that a `plan` or `task` token is bound to."""
    bound = scope in (TokenScope.PLAN, TokenScope.TASK)
    if bound != bool(reference):
        raise UsageError(
            f"a {scope} token is bound to {f'one {scope}' if bound else 'no plan and no task'}",
            hint="holdfast token create task T3" if bound else f"holdfast token create {scope}",
        )
    secret = clock.new_secret()
    with house.database.transaction() as connection:
        task_id = tasks.find(connection, reference) if scope is TokenScope.TASK else None
        plan_id = plans.find(connection, reference) if scope is TokenScope.PLAN else None
        made = tokens.add(
            connection,
            id=clock.new_id(),
            secret=secret,
            name=name,
            scope=scope,
            plan_id=plan_id if task_id is None else tasks.get(connection, task_id).plan_id,
            task_id=task_id,
            expires_at=None if expires_in is None else clock.now() + expires_in,
            actor=house.actor,
        )
    return Made(made, secret)


def list_(house: House, *, revoked: bool = False, limit: int = 50, cursor: str = "") -> Page[Token]:
    """Gives a page of tokens, newest first."""
    with house.database.read() as connection:
        return tokens.list_(connection, revoked=revoked, limit=limit, cursor=cursor or None)


def revoke(house: House, reference: str) -> Token:
    """Makes a token useless from now on."""
    with house.database.transaction() as connection:
        return tokens.revoke(connection, tokens.find(connection, reference), actor=house.actor)


def bearing(house: House, secret: str) -> Token:
    """Gives the token of that secret; raises `NotFound` for one that is not good. To be asked for each single call."""
    with house.database.read() as connection:
        token = tokens.bearing(connection, secret)
    if token.last_used_at is None or clock.now() - token.last_used_at > tokens.USE_KEPT_EVERY:
        with house.database.transaction() as connection:
            tokens.used(connection, token)
    return token


def actor_of(house: House, token: Token) -> str:
    """Gives the name under which is recorded what is done with a token: `agent:T3`, `agent:P1` or `token:K5`."""
    with house.database.read() as connection:
        if token.task_id is not None:
            return f"agent:T{tasks.get(connection, token.task_id).number}"
        if token.plan_id is not None:
            return f"agent:P{plans.get(connection, token.plan_id).number}"
    return f"token:K{token.number}"


def refuse(token: Token, tool: Tool) -> None:
    """Raises `IllegalState` if the token is not for that tool."""
    if not token.may(tool):
        raise IllegalState(f"a {token.scope} token is not for {tool}", code="out_of_scope")


def plan_of(house: House, token: Token, tool: Tool, reference: str = "") -> str:
    """Gives the id of the plan that a call is about: the token's own, or any for a token that is bound to none.

    What a token does not reach is not there for it: `NotFound`.
    """
    refuse(token, tool)
    if not reference:
        if token.plan_id is None:
            raise UsageError(f"{tool} needs to be told of which plan", hint="plan: P1")
        return token.plan_id
    with house.database.read() as connection:
        try:
            found = plans.find(connection, reference)
        except NotFound:
            raise _unreached("plan", reference) from None
    if token.plan_id not in (None, found):
        raise _unreached("plan", reference)
    return found


def task_of(house: House, token: Token, tool: Tool, reference: str = "") -> str:
    """Gives the id of the task that a call is about, as `plan_of` does; by its key too where the plan is known."""
    refuse(token, tool)
    if not reference:
        if token.task_id is None:
            raise UsageError(f"{tool} needs to be told of which task", hint="task: T1")
        return token.task_id
    with house.database.read() as connection:
        try:
            found = tasks.find(connection, reference, plan_id=token.plan_id)
        except NotFound:
            raise _unreached("task", reference) from None
    if token.task_id not in (None, found):
        raise _unreached("task", reference)
    return found


def subject_of(house: House, token: Token, tool: Tool, task: str = "", plan: str = "") -> tuple[str, str | None]:
    """Gives the plan and, unless it is about the plan itself, the task that a call is about."""
    if task or token.task_id is not None:
        task_id = task_of(house, token, tool, task)
        with house.database.read() as connection:
            return tasks.get(connection, task_id).plan_id, task_id
    return plan_of(house, token, tool, plan), None


def _unreached(noun: str, reference: str) -> NotFound:
    return NotFound(f"this token reaches no {noun} {reference!r}", hint="leave it out: it is the token's own")
