"""A worker process for the crash tests: brings the sample plan as far as it goes, through the verbs of `app/`.

    python driver.py <repository> <plan file> [--bug NAME] [--shim FAILPOINT:LAUNCH:HIT_FILE] [--until STATE]

Started again after a kill it goes on, wherever the one before it was killed. Ends with the plan's exit code.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from holdfast.agents import Launch
from holdfast.app import execution, plans, projects
from holdfast.app.wire import House, open_house
from holdfast.domain.plan import Plan
from holdfast.domain.transitions import PLAN_EXECUTING, PlanStatus
from holdfast.engine.worker import Worker
from holdfast.store import plans as plan_rows

LOOK_SECONDS = 0.05


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("repository", type=Path)
    options.add_argument("plan_file", type=Path)
    options.add_argument("--bug", default="")
    options.add_argument("--shim", default="")
    options.add_argument("--until", default="")
    chosen = options.parse_args()
    if chosen.bug:
        from tests.harness import bugs

        bugs.plant(chosen.bug)
    if chosen.shim:
        arm_shim(*chosen.shim.split(":", 2))
    with open_house(actor="crash-test") as house:
        plan_id = begun(house, chosen.repository, chosen.plan_file)
        with execution.working(house, "run") as worker:
            if worker is None:
                print("another worker holds the database", file=sys.stderr)
                return 5
            print("working", flush=True)
            plan = followed(house, worker, plan_id, PlanStatus(chosen.until) if chosen.until else None)
    print(plan.status, plan.stage, plan.pause_reason or "", plan.error)
    return execution.exit_code(plan)


def followed(house: House, worker: Worker, plan_id: str, until: PlanStatus | None) -> Plan:
    """Waits until the plan has stopped (or reached a status): looks at one row only, as it looks often."""
    while True:
        if worker.runtime.broken is not None:
            raise worker.runtime.broken
        with house.database.read() as connection:
            plan = plan_rows.get(connection, plan_id)
        if plan.status not in PLAN_EXECUTING or plan.status is until:
            return plan
        worker.runtime.ended.wait(LOOK_SECONDS)


def begun(house: House, repository: Path, plan_file: Path) -> str:
    """Gives the id of the run's one plan, created and started now where a kill left it undone."""
    project = projects.init(house, repository).project
    found = plans.list_(house, project_id=project.id).items
    plan = found[0] if found else plans.create(house, project, plans.read_file(house, plan_file))
    if plan.status is PlanStatus.DRAFT:
        plans.execute(house, plan.id)
    return plan.id


def arm_shim(failpoint: str, wanted: str, hit_file: str) -> None:
    """Makes the n-th shim that this process starts die at a failpoint; the file then says that it passed it."""
    from holdfast.agents import launch as launching

    start_shim = launching._start_shim
    started = 0

    def start(folder: Path, lock: int, launch: Launch) -> None:
        nonlocal started
        started += 1
        if started != int(wanted):
            return start_shim(folder, lock, launch)
        os.environ.update(HOLDFAST_FAILPOINT=failpoint, HOLDFAST_FAILPOINT_LOG=hit_file)
        try:
            return start_shim(folder, lock, launch)
        finally:
            del os.environ["HOLDFAST_FAILPOINT"], os.environ["HOLDFAST_FAILPOINT_LOG"]

    launching._start_shim = start


if __name__ == "__main__":
    sys.exit(main())
