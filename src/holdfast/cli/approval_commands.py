"""`approvals`, `approve`, `reject`, `answer`: the gates where a person decides."""

from __future__ import annotations

import click

from holdfast.cli.grammar import verb
from holdfast.cli.session import Session

gate_argument = click.argument("gate", metavar="GATE")
comment_option = click.option("-m", "--comment", default="", metavar="TEXT", help="Why; kept with the decision.")


@verb("approvals", example="holdfast approvals")
@click.option("--all", "everything", is_flag=True, help="Decided ones too.")
def approvals(session: Session, everything: bool) -> int:
    """List the gates where a person decides."""
    from holdfast.app import approvals as gates
    from holdfast.cli.render import gates_table, say, show

    with session.house() as house:
        found = gates.list_(house, open_only=not everything)
    if session.json:
        session.document({"items": found, "next_cursor": None})
    elif found:
        show(session.out, gates_table(found))
    else:
        say(session.out, "no gate is open")
    return 0


@verb("approve", example="holdfast approve A2 -m 'looks right'")
@gate_argument
@comment_option
def approve(session: Session, gate: str, comment: str) -> int:
    """Approve an open gate.

    GATE is A2, or the plan or task that waits (P3, T7).
    """
    return decide_gate(session, gate, approve=True, comment=comment)


@verb("reject", example="holdfast reject A2 -m 'tests are missing'")
@gate_argument
@comment_option
def reject(session: Session, gate: str, comment: str) -> int:
    """Reject an open gate.

    A rejected task is left out; a rejected plan or result goes back a stage and its plan pauses.
    """
    return decide_gate(session, gate, approve=False, comment=comment)


@verb("answer", example='holdfast answer A4 "Use the second one."')
@gate_argument
@click.argument("text", metavar="TEXT")
def answer(session: Session, gate: str, text: str) -> int:
    """Answer the question of an agent.

    To refuse an answer: holdfast reject.
    """
    return decide_gate(session, gate, approve=True, comment=text)


def decide_gate(session: Session, reference: str, *, approve: bool, comment: str) -> int:
    """Decides a gate and says how its plan goes on."""
    from holdfast.app import approvals as gates
    from holdfast.app import execution, plans
    from holdfast.cli.render import safe

    with session.house() as house:
        decided = gates.decide(house, gates.find(house, reference), approve=approve, comment=comment)
        number = plans.show(house, decided.plan_id).plan.number
        worked_on = execution.is_worked_on(house)
    if session.json:
        session.document(decided)
        return 0
    session.out.print(f"A{decided.number} {decided.status}: {safe(decided.title)}", soft_wrap=True)
    if not worked_on:
        session.note(f"no worker is alive; go on: holdfast resume P{number}")
    return 0
