"""What the first page of a long history costs: the verb `timeline`, beside the bare SQL query on the same index.

    uv run python bench/timeline.py                 SQLite
    uv run python bench/timeline.py --postgres      PostgreSQL too, a server of its own

Two histories, of 1,000 and of 1,000,000 events of many plans, people and workers: the first page, and one with each
filter. The bare query is the driver's own, prepared and warm, with its JSON read; of all rounds the quickest counts,
for that is when nobody else had the machine. Prints a table and writes bench/results/timeline.json. Exit code 1 if the
verb takes more than 3 times the bare query, or with the long history twice as long as with the short one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.app.wire import House

RESULTS = Path(__file__).parent / "results" / "timeline.json"
BESIDE_LIMIT = 3.0
LENGTH_LIMIT = 2.0
SHORT = 1_000
PAGE = 50
BATCH = 20_000
ROUNDS = 500
PLANS = 10
AT = datetime(2026, 3, 4, tzinfo=UTC)
KINDS = ("started", "completed", "failed", "queued", "running", "messages", "initial", "step")
TYPES = ("step", "step", "step", "task", "task", "chat", "checkpoint", "checkpoint")


@dataclass(frozen=True)
class Look:
    """One way to look: the verb's filters, and the bare query that gives the same rows."""

    filters: dict[str, Any]
    where: str
    values: tuple[Any, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--postgres", action="store_true", help="measure PostgreSQL too")
    chosen = parser.parse_args()
    result: dict[str, Any] = {"events": chosen.events, "page": PAGE}
    reached = True
    with ExitStack() as stack:
        for name in ("sqlite", "postgresql") if chosen.postgres else ("sqlite",):
            short, long = (
                stack.enter_context(history_of(url_of(stack, name), count)) for count in (SHORT, chosen.events)
            )
            result[name] = measured(short, long)
            reached &= shown(name, result[name], chosen.events)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if reached else 1


def shown(name: str, found: dict[str, Any], events: int) -> bool:
    print(f"\n{name}: {events:,} events written in {found['seconds_to_write']:.0f} s")
    print(f"{'first page':16} {'bare ms':>9} {'verb ms':>9} {'ratio':>7} {'at ' + format(SHORT, ','):>9} {'ratio':>7}")
    reached = True
    for look, times in found["looks"].items():
        bare, verb, before = times["bare_ms"], times["verb_ms"], times["short_ms"]
        beside, length = verb / bare, verb / before
        good = beside <= BESIDE_LIMIT and length <= LENGTH_LIMIT
        print(f"{look:16} {bare:9.3f} {verb:9.3f} {beside:7.2f} {before:9.3f} {length:7.2f}{'' if good else '  NO'}")
        reached &= good
    return reached


def url_of(stack: ExitStack, name: str) -> str:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-")))
    if name == "sqlite":
        return f"sqlite:///{folder}/holdfast.db"
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.harness.postgres import postgres_server

    server = stack.enter_context(postgres_server())
    return stack.enter_context(server.database())


@dataclass(frozen=True)
class History:
    """An open database with so many events, and the ways to look at them."""

    house: House
    looks: dict[str, Look]
    seconds_to_write: float

    def verb(self, look: str) -> Callable[[], Any]:
        from holdfast.app import history

        return lambda: history.timeline(self.house, limit=PAGE, **self.looks[look].filters)


@contextmanager
def history_of(url: str, count: int) -> Iterator[History]:
    from holdfast.app.wire import open_house
    from holdfast.settings import Settings

    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        with open_house(Settings(data=Path(folder), db=url), actor="bench") as house:
            began = time.perf_counter()
            ids = fill(house, count)
            yield History(house, looks(house, ids, count), time.perf_counter() - began)


def measured(short: History, long: History) -> dict[str, Any]:
    """Gives the milliseconds of each look: bare and as the verb in the long history, and as the verb in the short."""
    found: dict[str, dict[str, float]] = {}
    for name, look in long.looks.items():
        with long.house.database.engine.connect() as connection:
            bare = bare_query(connection.connection.cursor(), look, long.house.database.is_sqlite)
            assert [row[0] for row in bare()][:PAGE] == [event.id for event in long.verb(name)().items], name
            found[name] = in_turn(bare_ms=bare, verb_ms=long.verb(name), short_ms=short.verb(name))
    return {"seconds_to_write": long.seconds_to_write, "looks": found}


def in_turn(**works: Callable[[], object]) -> dict[str, float]:
    """Gives the least milliseconds of each, measured in turn, so that a busy machine slows them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * min(each) for name, each in seconds.items()}


def bare_query(cursor: Any, look: Look, plain: bool) -> Callable[[], list[Any]]:
    query = f"SELECT * FROM events WHERE {look.where} ORDER BY at DESC, id DESC LIMIT {PAGE + 1}"

    def run() -> list[Any]:
        rows = cursor.execute(query, look.values).fetchall()
        if plain:  # the driver of PostgreSQL reads JSON by itself
            for row in rows:
                json.loads(row[-1])
        return rows

    return run


def looks(house: House, ids: dict[str, list[str]], count: int) -> dict[str, Look]:
    from holdfast.domain.history import EventType

    sign = "?" if house.database.is_sqlite else "%s"
    middle = AT + timedelta(seconds=count // 2)
    stored = int(middle.timestamp() * 1_000_000) if house.database.is_sqlite else middle
    plan, task = ids["plans"][PLANS // 2], ids["tasks"][PLANS // 2]
    return {
        "everything": Look({}, f"owner_id = {sign}", ("local",)),
        "--plan": Look({"plan_id": plan}, f"plan_id = {sign}", (plan,)),
        "--task": Look({"task_id": task}, f"task_id = {sign}", (task,)),
        "--type": Look({"type": EventType.STEP}, f"type = {sign}", ("step",)),
        "--subtype": Look({"subtype": "failed"}, f"subtype = {sign}", ("failed",)),
        "--actor": Look({"actor": "ada"}, f"actor = {sign}", ("ada",)),
        "--to": Look({"until": middle}, f"owner_id = {sign} AND at < {sign}", ("local", stored)),
        "--plan --type": Look(
            {"plan_id": plan, "type": EventType.STEP}, f"plan_id = {sign} AND type = {sign}", (plan, "step")
        ),
    }


def fill(house: House, count: int) -> dict[str, list[str]]:
    """Writes plans with a task each, and `count` events of them, a second apart, in large batches."""
    from sqlalchemy import insert, text

    from holdfast import clock
    from holdfast.domain.plan import Project
    from holdfast.domain.planfile import parse, to_domain
    from holdfast.store import plans, projects
    from holdfast.store.tables import events

    project = Project(clock.new_id(), 0, "bench", "/bench", "home", "main", {}, AT)
    file = parse("title: Bench\nphases: [{title: Only, tasks: [{title: Work, run: 'true'}]}]\n", source="plan.yaml")
    ids: dict[str, list[str]] = {"plans": [], "phases": [], "tasks": []}
    with house.database.transaction() as connection:
        project = projects.add(connection, project, actor="bench")
        for _ in range(PLANS):
            made = to_domain(file, ids=clock.new_id, project_id=project.id, created_at=AT)
            plan, phases, tasks = plans.add(connection, *made, actor="bench")
            for name, item in (("plans", plan), ("phases", phases[0]), ("tasks", tasks[0])):
                ids[name].append(item.id)
    rows = told(project.id, ids, count)
    while batch := [row for row, _ in zip(rows, range(BATCH), strict=False)]:
        with house.database.transaction() as connection:
            connection.execute(insert(events), batch)
    with house.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not house.database.is_sqlite:
            connection.execute(text("VACUUM ANALYZE events"))
    return ids


def told(project_id: str, ids: dict[str, list[str]], count: int) -> Iterator[dict[str, Any]]:
    """Gives events of all plans in turn, each with the data that such an event has."""
    for number in range(count):
        plan, kind = number % PLANS, number * 7 % len(KINDS)
        yield {
            "at": AT + timedelta(seconds=number),
            "owner_id": "local",
            "project_id": project_id,
            "plan_id": ids["plans"][plan],
            "phase_id": ids["phases"][plan],
            "task_id": ids["tasks"][plan],
            "type": TYPES[kind],
            "subtype": KINDS[kind],
            "actor": "ada" if number % 20 == 3 else f"worker:{number % 7}",
            "data": {"number": number, "from": "queued", "to": "running", "attempt": 1, "commit_after": "a" * 40},
        }


if __name__ == "__main__":
    sys.exit(main())
