"""`agent`: the agents that tasks can be given to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import noun, project_option
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.agents import AgentCheck, AgentView

agent = noun("agent", example="holdfast agent list", help="Agents: which there are, and what they can do.")


@agent.verb("list", example="holdfast agent list --found")
@click.option("--found", "found_only", is_flag=True, help="Only those whose program is on this machine.")
def list_(session: Session, found_only: bool) -> int:
    """List the agents that a plan can name, and which of them are here.

    Your own agents, and changes of the known ones, are in the file that HOLDFAST_AGENTS names.
    """
    from holdfast.app import agents
    from holdfast.cli.render import say, show, table

    views = agents.list_(session.settings(), found_only=found_only)
    if session.json:
        session.document({"items": views, "next_cursor": None})
        return 0
    if not views:
        say(session.out, "no agent is on this machine")
        return 0
    rows = [
        [view.name, view.title, "found" if view.found else "missing", view.version, _first_steps(view)]
        for view in views
    ]
    show(session.out, table(["agent", "title", "here", "version", "install or log in"], rows))
    return 0


def _first_steps(view: AgentView) -> str:
    return f"log in: {view.hint}" if view.found and view.hint else view.hint


@agent.verb("show", example="holdfast agent show opencode")
@click.argument("name", metavar="NAME")
def show_(session: Session, name: str) -> int:
    """Show how an agent is started, found and logged in."""
    from holdfast.app import agents
    from holdfast.cli.render import facts, show

    view = agents.show(session.settings(), name)
    if session.json:
        session.document(view)
        return 0
    spec = view.spec
    show(
        session.out,
        facts(
            [
                ("agent", f"{view.name} ({view.title})" + (", from your file" if spec.own else "")),
                ("program", view.path or f"missing: {view.hint}"),
                ("version", view.version),
                ("command", " ".join(spec.command)),
                ("log in", spec.login),
                ("passed on", ", ".join(spec.pass_environment)),
                ("set", ", ".join(spec.environment)),
                ("sessions in", ", ".join(map(_below_home, spec.sessions))),
                ("reads", ", ".join(map(_below_home, spec.reads))),
                ("gets a copy of", ", ".join(f"~/{file}" for file in spec.copies)),
                ("logs in by", spec.auth_method),
                ("mode", spec.mode),
                ("model", spec.model),
                ("changes nothing in mode", spec.read_only_mode),
                ("checked", spec.verified or f"no: {spec.unverified}"),
                ("notes", "\n".join(spec.notes)),
            ]
        ),
    )
    return 0


def _below_home(place: str) -> str:
    return place if place.startswith("$") else f"~/{place}"


@agent.verb("check", example="holdfast agent check opencode --prompt")
@click.argument("name", metavar="NAME")
@project_option
@click.option("--prompt", is_flag=True, help="Ask it one short question too: shows whether it tells what it uses.")
def check_(session: Session, name: str, project: str, prompt: bool) -> int:
    """Open a session with an agent and show what it can do.

    It runs in the sandbox that a task of the project would have; HOLDFAST_SANDBOX=none is without. Unless you ask for
    one, no prompt is sent, so it costs nothing; the agent may remember an empty session.
    """
    from holdfast.app import agents
    from holdfast.cli.render import facts, seconds, show, size

    with session.house() as house:
        checked = agents.check(house, name, project=project, prompt=prompt)
    if session.json:
        session.document(checked)
        return 0
    can = checked.can
    show(
        session.out,
        facts(
            [
                ("agent", f"{can.agent or checked.name} {can.version}".strip()),
                ("program", checked.path),
                ("sandbox", _sandbox(checked)),
                ("goes on with a session", "yes" if can.load or can.resume else "no: it is told what was said before"),
                ("forks a session", "yes" if can.fork else "no"),
                ("lists its sessions", "yes" if can.list else "no"),
                ("modes", ", ".join(mode.id for mode in can.modes)),
                ("models", ", ".join(model.id for model in can.models)),
                ("tells what it uses", _usage(checked)),
                ("logs in by", ", ".join(f"{method.name} ({method.id})" for method in can.auth_methods)),
                ("took", f"{seconds(checked.seconds)}, {size(checked.peak_memory_bytes)} of memory"),
            ]
        ),
    )
    return 0


def _sandbox(checked: AgentCheck) -> str:
    if not checked.project:
        return "none: this is no project; in one it is checked as its tasks run"
    return f"{checked.sandbox}, as in a task of {checked.project}"


def _usage(checked: AgentCheck) -> str:
    used = checked.usage
    tokens, cost = used is not None and used.total_tokens > 0, used is not None and used.cost_usd is not None
    if not checked.prompted and not (tokens and cost):
        return f"{'tokens; ' if tokens else 'cost; ' if cost else ''}not told before its first turn: add --prompt"
    match tokens, cost:
        case True, True:
            return "tokens and cost"
        case True, False:
            return "tokens; their cost follows from prices where its model is known"
        case False, True:
            return "cost, no tokens"
        case _:
            return "no: a budget of tokens or cost does not see it"
