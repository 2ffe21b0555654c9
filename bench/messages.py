"""What it costs to record a conversation: updates a second, memory, and whether its length shows anywhere.

Each measurement runs in a process of its own, on SQLite, as the engine does it: updates folded in batches, some 5
transactions a second's worth of them each. Prints a table and writes bench/results/messages.json. Exit code 1 if
recording does not keep up with 2,000 updates a second, takes 150 MB or more for 100,000 messages, or if a snapshot or
the last page at 100,000 messages costs more than twice what it costs at 10.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.domain.conversation import Conversation, Update
    from holdfast.store import Database

RESULTS = Path(__file__).parent / "results" / "messages.json"
UPDATES_A_SECOND = 2000
BATCH = UPDATES_A_SECOND // 5
MEMORY_LIMIT_MB = 150
RATIO_LIMIT = 2.0
AT = datetime(2026, 3, 4, tzinfo=UTC)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        print(json.dumps(measured(Path(chosen.inside), chosen.messages)))
        return 0
    short, long = in_process(10), in_process(chosen.messages)
    ratios = {key: long[key] / short[key] for key in ("snapshot_ms", "last_page_ms")}
    checks = {
        "keeps up with 2,000 updates a second": long["updates_a_second"] >= UPDATES_A_SECOND,
        f"below {MEMORY_LIMIT_MB} MB": long["peak_memory_mb"] < MEMORY_LIMIT_MB,
        "a snapshot costs the same": ratios["snapshot_ms"] < RATIO_LIMIT,
        "the last page costs the same": ratios["last_page_ms"] < RATIO_LIMIT,
    }
    print(f"{'':24} {'10':>10} {chosen.messages:>10,} {'ratio':>7}")
    for key in long:
        print(f"{key:24} {short[key]:10.2f} {long[key]:10.2f} {long[key] / short[key]:7.2f}")
    for text, reached in checks.items():
        print(f"{text}: {'yes' if reached else 'NO'}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"10": short, str(chosen.messages): long, "ratios": ratios}, indent=2) + "\n")
    return 0 if all(checks.values()) else 1


def in_process(messages: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        line = [sys.executable, __file__, "--inside", folder, "--messages", str(messages)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def updates(messages: int) -> Iterator[Update]:
    """Gives what makes that many messages: speech in four pieces, then a tool call told three times, over and over."""
    from holdfast.domain.conversation import Heard, Spoke, ToolUsed

    record = 0
    for number in range(0, messages, 3):
        for piece in range(4):
            record += 1
            yield Spoke(Heard(record, AT), f"piece {piece} of what is said in message {number}, ")
        for status in ("pending", "in_progress", "completed"):
            record += 1
            output = f"result {number}\n" * 20 if status == "completed" else None
            yield ToolUsed(Heard(record, AT), f"call-{number}", status, "Run the tests", "execute", output=output)


def measured(folder: Path, count: int) -> dict[str, float]:
    from holdfast.domain.conversation import SnapshotKind
    from holdfast.store import Database, messages, snapshots

    database = Database.open(f"sqlite:///{folder}/holdfast.db", data=folder)
    of, step_id = a_task(database)
    told, seconds = record(database, of, step_id, count)

    def keep() -> None:
        with database.transaction() as connection:
            snapshots.add(connection, of, SnapshotKind.CHECKPOINT, actor="bench")

    def look() -> None:
        with database.read() as connection:
            messages.list_(connection, of, limit=10)

    result = {
        "updates": told,
        "updates_a_second": told / seconds,
        "snapshot_ms": milliseconds(keep),
        "last_page_ms": milliseconds(look),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    database.close()
    return result


def record(database: Database, of: Conversation, step_id: str, count: int) -> tuple[int, float]:
    """Records the conversation; gives the number of updates and the seconds that it took."""
    from itertools import islice

    from holdfast.domain.transcript import Transcript
    from holdfast.store import Source, messages

    transcript, source = Transcript(of, step_id, "agent-0"), Source(step_id, "agent-0")
    stream, told = updates(count), 0
    began = time.perf_counter()
    while batch := list(islice(stream, BATCH)):
        told += len(batch)
        folded = transcript.feed(batch, batch[-1].heard.record)
        with database.transaction() as connection:
            messages.append_all(
                connection,
                of,
                folded.messages,
                actor="bench",
                source=source,
                mark=folded.mark,
                claim=0,
                snapshot_every=100,
            )
    return told, time.perf_counter() - began


def a_task(database: Database) -> tuple[Conversation, str]:
    """Makes a project, a plan, a task and a running step of it."""
    from holdfast import clock
    from holdfast.domain.conversation import Conversation
    from holdfast.domain.plan import Project
    from holdfast.domain.planfile import parse, to_domain
    from holdfast.store import plans, projects, steps

    project = Project(clock.new_id(), 0, "bench", "/bench", "home", "main", {}, AT)
    text = "title: Bench\nphases: [{title: Only, tasks: [{title: Talk, run: 'true'}]}]\n"
    with database.transaction() as connection:
        project = projects.add(connection, project, actor="bench")
        planfile = parse(text, source="plan.yaml")
        made = to_domain(planfile, ids=clock.new_id, project_id=project.id, created_at=AT)
        _, _, tasks = plans.add(connection, *made, actor="bench")
        step = steps.begin(
            connection,
            id=clock.new_id(),
            task_id=tasks[0].id,
            run=1,
            attempt=1,
            branch="bench",
            commit_before="a" * 40,
            actor="bench",
        )
    return Conversation(tasks[0].plan_id, tasks[0].id), step.id


def milliseconds(work: Callable[[], None], rounds: int = 50) -> float:
    def once() -> float:
        began = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - began)

    once()
    return statistics.median(once() for _ in range(rounds))


if __name__ == "__main__":
    sys.exit(main())
