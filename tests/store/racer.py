"""One of several processes that do the same thing to one database at once; started by `test_races`.

Says "ready", waits for a line on its standard input, does its work and prints what it got as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.store.world import new_phase, new_plan, new_task

from holdfast import clock
from holdfast.domain.plan import ApprovalKind
from holdfast.store import approvals, plans, projects, steps, tasks
from holdfast.store.database import Database


def main(url: str, data: str, what: str, subject: str, count: int) -> None:
    if what == "open":
        _start()
        Database.open(url, data=Path(data)).close()
        _say([1])
        return
    database = Database.open(url, data=Path(data))
    _start()
    _say([_once(database, what, subject, turn) for turn in range(count)])
    database.close()


def _once(database: Database, what: str, subject: str, turn: int) -> object:
    with database.transaction() as connection:
        match what:
            case "plans":
                plan = new_plan(projects.get(connection, subject), f"plan-{clock.new_id()}")
                phase = new_phase(plan, 0)
                stored, _, made = plans.add(connection, plan, (phase,), (new_task(phase, "a"), new_task(phase, "b")))
                return [stored.number, *(task.number for task in made)]
            case "claims":
                worker, task = subject.split()
                return tasks.take_claim(connection, task, worker)
            case "steps":
                step = _begin(connection, subject, turn + 1)
                return [step.number, step.id]
            case "gates":
                ids = {"id": clock.new_id(), "plan_id": subject}
                return approvals.open(connection, kind=ApprovalKind.PLAN, title="?", actor="w", **ids).number
            case _:
                raise ValueError(what)


def _begin(connection: object, task_id: str, run: int) -> steps.Step:
    step = steps.begin(
        connection,  # pyright: ignore
        id=clock.new_id(),
        task_id=task_id,
        run=run,
        attempt=run,
        branch="b",
        commit_before="a" * 40,
        actor="w",
    )
    return steps.finish(connection, step.id, actor="w", exit_code=0)  # pyright: ignore


def _start() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def _say(result: object) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]))
