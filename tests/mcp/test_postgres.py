"""Tokens and questions on PostgreSQL: what they promise there too. No worker runs, no process is started."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from tests.engine.conftest import Bench, opened, settings
from tests.mcp.conftest import OURS

from holdfast import clock
from holdfast.app import approvals, plans, tokens
from holdfast.domain.planfile import parse
from holdfast.domain.token import TokenScope, Tool
from holdfast.domain.transitions import ApprovalStatus
from holdfast.errors import IllegalState, NotFound
from holdfast.store import approvals as gates
from holdfast.store import steps, tasks
from holdfast.store import tokens as token_rows


@pytest.fixture
def house(postgres_url: str, tmp_path: Path, repository: Path) -> Iterator[Bench]:
    for bench in opened(settings(tmp_path, postgres_url), repository):
        plans.create(bench.house, bench.project, parse(OURS, source="plan.yaml"))
        yield bench


def test_a_token_is_good_until_it_is_revoked_expires_or_its_step_ends(house: Bench) -> None:
    of_task = tokens.create(house.house, TokenScope.TASK, reference="T1")
    token = tokens.bearing(house.house, of_task.secret)
    assert tokens.task_of(house.house, token, Tool.HISTORY) == tokens.task_of(house.house, token, Tool.HISTORY, "build")
    with pytest.raises(NotFound, match="reaches no task 'T2'"):
        tokens.task_of(house.house, token, Tool.HISTORY, "T2")
    with pytest.raises(IllegalState):
        tokens.plan_of(house.house, token, Tool.TASK_ADD)
    assert tokens.list_(house.house).items[0].last_used_at is not None
    tokens.revoke(house.house, "K1")
    expired = tokens.create(house.house, TokenScope.READ, expires_in=timedelta(seconds=-1))
    secret = clock.new_secret()
    with house.house.database.transaction() as connection:
        task = tasks.get(connection, tasks.find(connection, "T1"))
        step = steps.begin(
            connection,
            id=clock.new_id(),
            task_id=task.id,
            run=1,
            attempt=1,
            branch="holdfast/x",
            commit_before="a" * 40,
            actor="tester",
        )
        bound = {"plan_id": task.plan_id, "task_id": task.id, "step_id": step.id}
        scope = TokenScope.TASK
        made = {"id": clock.new_id(), "secret": secret, "name": "step 1", "scope": scope, "actor": "tester"}
        token_rows.add(connection, **made, **bound)
    assert tokens.bearing(house.house, secret).step_id == step.id
    with house.house.database.transaction() as connection:
        steps.finish(connection, step.id, actor="tester", exit_code=0)
    for gone in (of_task.secret, expired.secret, secret):
        with pytest.raises(NotFound):
            tokens.bearing(house.house, gone)


def test_a_question_that_many_ask_at_once_is_one_gate_with_one_answer(house: Bench) -> None:
    with house.house.database.read() as connection:
        task = tasks.get(connection, tasks.find(connection, "T1"))

    def ask(_: int) -> str:
        return approvals.ask(house.house, task.plan_id, task.id, "Which port?", key="port").id

    with ThreadPoolExecutor(4) as pool:
        (gate_id,) = set(pool.map(ask, range(8)))
    approvals.decide(house.house, gate_id, approve=True, comment="8080")
    again = approvals.ask(house.house, task.plan_id, task.id, "Which port?", key="port")
    assert (again.id, again.status, again.comment) == (gate_id, ApprovalStatus.APPROVED, "8080")
    with pytest.raises(IllegalState, match="approved already"):
        approvals.decide(house.house, gate_id, approve=False)
    other = approvals.ask(house.house, task.plan_id, task.id, "Which host?")
    with house.house.database.transaction() as connection:
        gates.cancel_open(connection, plan_id=task.plan_id, task_id=task.id, kind=other.kind, actor="tester")
    assert approvals.ask(house.house, task.plan_id, task.id, "Which host?").number == other.number + 1
