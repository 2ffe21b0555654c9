"""`status`: what is unfinished, or how one plan stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import verb
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.wire import House


@verb(
    "status",
    example="""
    holdfast status
    holdfast status P3 --json
    """,
)
@click.argument("plan", required=False, default="")
def status(session: Session, plan: str) -> int:
    """Show unfinished plans, open gates and workers, or one plan."""
    from holdfast.app import plans

    with session.house() as house:
        if plan:
            return show_plan(session, house, plans.find(house, plan))
        return _everything(session, house)


def show_plan(session: Session, house: House, plan_id: str) -> int:
    """Prints one plan: its board, steps and gates, and what to do next."""
    from holdfast.app import execution, plans, projects, rewinds, steps
    from holdfast.cli import board, ending
    from holdfast.cli.render import say, show
    from holdfast.domain.transitions import PLAN_EXECUTING

    view = plans.show(house, plan_id)
    if session.json:
        session.document(view)
        return 0
    said = steps.last_lines(house, view.steps)
    show(session.out, board.picture(view, width=session.out.width, height=100_000, said=said))
    if projects.unconfined(house, view.project):
        say(session.out, "  no sandbox: commands run as you, unconfined", style="dim")
    for warning in (*view.warnings, *rewinds.under_way(house, plan_id)):
        say(session.out, f"  {warning}", style="yellow")
    if view.plan.error:
        say(session.out, f"  {view.plan.error.strip()}", style="red")
    if view.plan.status in PLAN_EXECUTING and not view.gates and not execution.is_worked_on(house):
        say(session.out, f"no worker is alive; go on:  holdfast resume P{view.plan.number}", style="yellow")
        return 0
    for line in ending.advice(house, view):
        say(session.out, line)
    return 0


def _everything(session: Session, house: House) -> int:
    from holdfast.app import approvals, execution, plans, rewinds
    from holdfast.cli.render import gates_table, plans_table, say, show, table
    from holdfast.domain.transitions import TASK_DONE

    unfinished = plans.unfinished(house)
    gates = approvals.list_(house)
    workers = execution.workers_now(house)
    cut = execution.interrupted(house)
    begun = rewinds.under_way(house)
    if session.json:
        names = [f"P{view.plan.number}" for view in cut]
        shown = {"plans": unfinished, "gates": gates, "workers": workers, "interrupted": names, "under_way": begun}
        session.document(shown)
        return 0
    views = [plans.show(house, plan.id) for plan in unfinished]
    done = {view.plan.id: f"{sum(task.status in TASK_DONE for task in view.tasks)}/{len(view.tasks)}" for view in views}
    if unfinished:
        show(session.out, plans_table(unfinished, done))
    else:
        say(session.out, "no plan is unfinished")
    if gates:
        say(session.out)
        show(session.out, gates_table(gates))
    alive = [worker for worker in workers if worker.alive]
    if alive:
        say(session.out)
        rows = [[worker.kind, str(worker.pid), worker.host, worker.id[:8]] for worker in alive]
        show(session.out, table(["worker", "pid", "host", "id"], rows))
    for view in cut:
        under_way = ", ".join(execution.cut_off(view))
        if not under_way and any(gate.plan_id == view.plan.id for gate in gates):
            continue  # it waits for a person
        told = f"P{view.plan.number} has no worker" + (f"; it was interrupted at: {under_way}" if under_way else "")
        say(session.out, f"{told}\ngo on:  holdfast resume P{view.plan.number}", style="yellow")
    for each in begun:
        say(session.out, each, style="yellow")
    return 0
