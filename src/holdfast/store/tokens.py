"""Tokens: only the hash of each secret is stored. It has 256 bits of chance, so a plain hash cannot be turned round."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, select, update

from holdfast import clock
from holdfast.domain.history import EventType
from holdfast.domain.token import Token, TokenScope
from holdfast.errors import NotFound
from holdfast.store import events, references
from holdfast.store.paging import Page, before, page
from holdfast.store.rows import entity, next_numbers, one, project_of
from holdfast.store.tables import LOCAL_OWNER, steps, tokens

# How old a token's last use may look: writing each single use would make every look at a plan a write.
USE_KEPT_EVERY = timedelta(minutes=1)


def add(
    connection: Connection,
    *,
    id: str,
    secret: str,
    name: str,
    scope: TokenScope,
    actor: str,
    plan_id: str | None = None,
    task_id: str | None = None,
    step_id: str | None = None,
    expires_at: datetime | None = None,
) -> Token:
    """Stores a new token; its secret cannot be had from here again."""
    values = {
        "id": id,
        "number": next_numbers(connection, "tokens")[0],
        "owner_id": LOCAL_OWNER,
        "digest": _digest(secret),
        "name": name,
        "scope": scope,
        "plan_id": plan_id,
        "task_id": task_id,
        "step_id": step_id,
        "created_at": clock.now(),
        "created_by": actor,
        "expires_at": expires_at,
    }
    stored = entity(Token, connection.execute(tokens.insert().values(**values).returning(tokens)).one())
    _tell(connection, stored, "token_created", actor)
    return stored


def bearing(connection: Connection, secret: str) -> Token:
    """Gives the token of that secret if it is good now; raises `NotFound`, also for one whose step has ended."""
    query = select(tokens).outerjoin(steps, steps.c.id == tokens.c.step_id)
    works = or_(tokens.c.step_id.is_(None), steps.c.ended_at.is_(None))
    row = connection.execute(query.where(tokens.c.digest == _digest(secret), works)).one_or_none()
    found = None if row is None else entity(Token, row)
    refusal = "is not known, or its step has ended" if found is None else found.refusal(clock.now())
    if found is None or refusal:
        raise NotFound(f"the token {refusal}", hint="make another one: holdfast token create", code="bad_token")
    return found


def used(connection: Connection, token: Token) -> None:
    """Keeps when the token was last used, to the minute."""
    now = clock.now()
    long_ago = or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < now - USE_KEPT_EVERY)
    connection.execute(update(tokens).where(tokens.c.id == token.id, long_ago).values(last_used_at=now))


def revoke(connection: Connection, token_id: str, *, actor: str) -> Token:
    """Makes a token useless from now on; one that was revoked stays so."""
    where = (tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
    row = connection.execute(
        update(tokens).where(*where).values(revoked_at=clock.now()).returning(tokens)
    ).one_or_none()
    if row is not None:
        _tell(connection, entity(Token, row), "token_revoked", actor)
    return get(connection, token_id)


def revoke_of_step(connection: Connection, step_id: str, *, actor: str) -> None:
    """Revokes what was made for a step."""
    good = (tokens.c.step_id == step_id, tokens.c.revoked_at.is_(None))
    for token_id in connection.execute(select(tokens.c.id).where(*good)).scalars().all():
        revoke(connection, token_id, actor=actor)


def revoke_of_plan(connection: Connection, plan_id: str, name: str, *, actor: str) -> None:
    """Revokes the tokens of that name that are bound to a plan itself."""
    good = (tokens.c.plan_id == plan_id, tokens.c.task_id.is_(None), tokens.c.name == name)
    for token_id in connection.execute(select(tokens.c.id).where(*good, tokens.c.revoked_at.is_(None))).scalars().all():
        revoke(connection, token_id, actor=actor)


def get(connection: Connection, token_id: str) -> Token:
    """Gives one token; raises `NotFound`."""
    return entity(Token, one(connection, select(tokens).where(tokens.c.id == token_id), "such token"))


def find(connection: Connection, reference: str) -> str:
    """Gives the id of the token "K3", "3", an id or a beginning of one; errors as `plans.find`."""
    query = select(tokens.c.id, tokens.c.number).order_by(tokens.c.number)
    number = references.number_in(reference, "K")
    rows = connection.execute(query.where(tokens.c.number == number)).all() if number is not None else ()
    found = rows or references.by_prefix(connection, query, tokens.c.id, reference)
    return references.only(found, "token", "K", reference, "holdfast token list lists them").id


def list_(connection: Connection, *, revoked: bool = False, limit: int = 100, cursor: str | None = None) -> Page[Token]:
    """Gives a page of tokens, newest first; with `revoked`, those too."""
    query = select(tokens).where(tokens.c.owner_id == LOCAL_OWNER)
    if not revoked:
        query = query.where(tokens.c.revoked_at.is_(None))
    found = [entity(Token, row) for row in connection.execute(before(query, tokens.c.number, cursor, limit))]
    return page(found, limit, lambda token: token.number)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _tell(connection: Connection, token: Token, subtype: str, actor: str) -> None:
    events.add(
        connection,
        EventType.SYSTEM,
        subtype,
        actor,
        project_id=None if token.plan_id is None else project_of(connection, token.plan_id),
        plan_id=token.plan_id,
        task_id=token.task_id,
        step_id=token.step_id,
        data={"number": token.number, "name": token.name, "scope": token.scope},
    )
