"""`approvals`, `approve`, `reject`, `answer`: the gates where a person decides."""

from __future__ import annotations

import click

from holdfast.cli.grammar import verb
from holdfast.cli.session import Session

gate_argument = click.argument("gate", metavar="GATE")
comment_option = click.option("-m", "--comment", default="", metavar="TEXT", help="Why; kept with the decision.")


@verb(
    "approvals",
    example="""
    holdfast approvals
    holdfast approvals A2
    """,
)
@click.argument("gate", metavar="[GATE]", required=False, default="")
@click.option("--all", "everything", is_flag=True, help="Decided ones too.")
def approvals(session: Session, gate: str, everything: bool) -> int:
    """List the gates where a person decides, or show one with all that it asks for."""
    from holdfast.app import approvals as gates
    from holdfast.cli.gates import asked
    from holdfast.cli.render import gates_table, say, show
    from holdfast.domain.transitions import ApprovalStatus

    with session.house() as house:
        one = gates.show(house, gates.find(house, gate)) if gate else None
        found = (one,) if one is not None else gates.list_(house, open_only=not everything)
    if session.json and one is not None:
        session.document(one)
    elif session.json:
        session.document({"items": found, "next_cursor": None})
    elif found:
        show(session.out, gates_table(found))
        for each in found:
            if gate or each.status is ApprovalStatus.OPEN:
                for part in asked(each, whole=bool(gate)):
                    show(session.out, part)
    else:
        say(session.out, "no gate is open")
    return 0


@verb("approve", example="holdfast approve A2 -m 'looks right'")
@gate_argument
@comment_option
@click.option("--always", is_flag=True, help="Tell the agent not to ask again for what it calls the same.")
@click.option("--remember", is_flag=True, help="Add a rule that allows exactly this to the plan's permissions.")
def approve(session: Session, gate: str, comment: str, always: bool, remember: bool) -> int:
    """Approve an open gate.

    GATE is A2, or the plan or task that waits (P3, T7). A permission is given this once; --always leaves the rest to
    the agent, --remember to Holdfast.
    """
    return decide_gate(session, gate, approve=True, comment=comment, always=always, remember=remember)


@verb("reject", example="holdfast reject A2 -m 'tests are missing'")
@gate_argument
@comment_option
def reject(session: Session, gate: str, comment: str) -> int:
    """Reject an open gate.

    A rejected task is left out; a rejected plan or result goes back a stage and its plan pauses. An
    agent that is refused a permission goes on without it; the comment is in its next prompt.
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


def decide_gate(
    session: Session,
    reference: str,
    *,
    approve: bool,
    comment: str,
    always: bool = False,
    remember: bool = False,
) -> int:
    """Decides a gate and says how its plan goes on."""
    from holdfast.app import approvals as gates
    from holdfast.app import execution, plans
    from holdfast.cli.render import safe

    with session.house() as house:
        gate_id = gates.find(house, reference)
        decided = gates.decide(house, gate_id, approve=approve, comment=comment, always=always, remember=remember)
        number = plans.show(house, decided.plan_id).plan.number
        worked_on = execution.is_worked_on(house)
    if session.json:
        session.document(decided)
        return 0
    session.out.print(f"A{decided.number} {decided.status}: {safe(decided.title)}", soft_wrap=True)
    if not worked_on:
        session.note(f"no worker is alive; go on: holdfast resume P{number}")
    return 0
