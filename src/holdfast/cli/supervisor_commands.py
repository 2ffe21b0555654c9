"""`supervisor …`: questions to who answers for a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.grammar import noun
from holdfast.cli.planning_commands import refuse_both
from holdfast.cli.rewind_commands import preserve_options
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.supervisor import Answered
    from holdfast.app.supervisor_resumes import Mode
    from holdfast.app.wire import House
    from holdfast.domain.conversation import Update
    from holdfast.domain.plan import Plan
    from holdfast.engine.inquiries import Inquiry

_MODES = ("continue", "restart_phase", "from_checkpoint")

supervisor = noun(
    "supervisor",
    help="""The supervisor of a plan: ask it, go on with what was cut off.

    It is an agent, or a model, that answers for the plan as a whole. It reads the code and may change the plan, never
    the code. What is said is the plan's own conversation.
    """,
    example='holdfast supervisor ask P1 "What is left, and what could go wrong?"',
)
plan_argument = click.argument("plan", metavar="PLAN")


@supervisor.verb(
    "ask",
    example="""
    holdfast supervisor ask P1 "Why did the tests of T3 fail?"
    holdfast supervisor ask P1 "Add a task that documents the new flag" --agent claude
    """,
)
@plan_argument
@click.argument("question")
@click.option("--agent", default="", metavar="NAME", help="Agent that answers (HOLDFAST_SUPERVISOR_AGENT).")
@click.option("--model", default="", metavar="PROVIDER:NAME", help="Model that answers, in words alone.")
def ask(session: Session, plan: str, question: str, agent: str, model: str) -> int:
    """Ask the supervisor of a plan, whatever state the plan is in.

    Its answer is printed as it comes. A question that was cut off, because its command was killed, is gone on with
    first. Ctrl-C stops the supervisor.
    """
    from holdfast.app import plans
    from holdfast.app import supervisor as verbs

    refuse_both(model, agent)
    voice = Voice(session)
    with session.house() as house:
        plan_id = plans.find(house, plan)
        done = verbs.ask(house, plan_id, question, agent=agent, model=model, tell=voice.tell, on_wait=voice.waits)
    voice.end(done)
    if session.json:
        session.document(done)
    return 0


@supervisor.verb(
    "resume",
    example="""
    holdfast supervisor resume P1
    holdfast supervisor resume P1 --context "The new endpoint is up: use it"
    holdfast supervisor resume P1 --mode restart_phase --context "Begin with the tests" --yes
    holdfast supervisor resume P1 --mode from_checkpoint --at T4@3 --dry-run
    """,
)
@plan_argument
@click.option("--mode", type=click.Choice(_MODES), default="continue", show_default=True, help="Where it goes on from.")
@click.option("--at", default="", metavar="CHECKPOINT", help="The checkpoint, with --mode from_checkpoint.")
@click.option("--context", default="", metavar="TEXT", help="What the supervisor, and the plan's agents, are told.")
@preserve_options
def resume(session: Session, plan: str, mode: str, at: str, context: str, **options: Any) -> int:
    """Let a plan's supervisor go on: as it stands, with the phase begun again, or from a checkpoint.

    As it stands, a question that was cut off, because its command was killed, is gone on with first. `restart_phase`
    takes the plan back to before its present phase, `from_checkpoint` to a checkpoint, and the supervisor's
    conversation with it. Nothing is lost, and `holdfast undo` takes it back; `holdfast resume` runs the plan.
    """
    from holdfast.app import plans
    from holdfast.app.supervisor_resumes import Mode
    from holdfast.cli.consent import consents

    with session.house() as house:
        found = plans.show(house, plans.find(house, plan)).plan
        chosen, deed = Mode(mode), _deed(found.number, mode, at, context)
        if chosen is not Mode.CONTINUE or at:
            return _go_back(session, house, found, chosen, deed, at=at, context=context, options=options)
        if options["dry_run"]:
            consents(session, deed, yes=False, dry_run=True)
            return 0
        answers = _go_on(session, house, found.id)
        if context.strip():
            return _go_back(session, house, found, chosen, deed, at="", context=context, options=options)
    if session.json:
        session.document({"items": answers})
    elif not answers:
        session.out.print("nothing was cut off")
    return 0


def _go_on(session: Session, house: House, plan_id: str) -> tuple[Answered, ...]:
    """Goes on with what was cut off and says what came of it."""
    from holdfast.app import supervisor as verbs
    from holdfast.cli.render import say

    voice = Voice(session)
    done = verbs.resume(house, plan_id, tell=voice.tell, on_wait=voice.waits)
    for each in done:
        voice.end(each)
        if each.error and not session.json:
            say(session.err, f"no answer: {each.error}", style="red")
    return done


def _go_back(
    session: Session, house: House, plan: Plan, mode: Mode, deed: str, *, at: str, context: str, options: dict[str, Any]
) -> int:
    """Shows what of the plan would go back, asks, and does it; without anything to go back it only adds the context."""
    from holdfast.app import plans
    from holdfast.app import supervisor_resumes as verbs
    from holdfast.cli.consent import consents
    from holdfast.cli.rewind_commands import agreed, how, told
    from holdfast.domain.transitions import PlanStatus

    chosen = how(options["preserve"], options["branch_name"])
    preview = verbs.preview_with(house, plan.id, mode, at=at, context=context, how=chosen)
    if preview is None:
        if options["dry_run"] and not consents(session, deed, yes=False, dry_run=True):
            return 0
    elif not agreed(session, deed, preview, options):
        return 0
    done = verbs.resume_with(house, plan.id, mode, at=at, context=context, how=chosen)
    code = told(session, done, deed)
    if plans.show(house, plan.id).plan.status is not PlanStatus.COMPLETED:
        session.note(f"go on: holdfast resume P{plan.number}")
    return code


def _deed(number: int, mode: str, at: str, context: str) -> str:
    deed = {
        "continue": f"go on with P{number} as it stands",
        "restart_phase": f"begin the present phase of P{number} again",
        "from_checkpoint": f"take P{number} and what was said with its supervisor back to {at}",
    }[mode]
    return f"{deed}, and tell its supervisor and agents more" if context.strip() else deed


@dataclass(slots=True)
class Voice:
    """Prints what a supervisor says, as it says it; what it does beside that in a line each."""

    session: Session
    inquiry: str = ""
    spoke: bool = False
    in_line: bool = False

    def waits(self) -> None:
        self.session.note("somebody else asks the supervisor just now; waiting")

    def tell(self, inquiry: Inquiry, updates: Sequence[Update]) -> None:
        from holdfast.cli.render import safe, say
        from holdfast.domain.conversation import Spoke, ToolUsed

        if self.session.json:
            return
        if self.inquiry != inquiry.id:
            self._end_line()
            self.inquiry, self.spoke = inquiry.id, False
            say(self.session.err, f"{inquiry.asked.author} is asked: {inquiry.asked.question}", style="dim")
        for update in updates:
            match update:
                case Spoke(text=text, thought=False):
                    self._speak(text)
                case ToolUsed(title=str(title), status="pending" | "in_progress"):
                    self._end_line()
                    self.session.err.print(f"⚙ {safe(title)}", style="dim", soft_wrap=True)
                case _:
                    pass

    def end(self, done: Answered) -> None:
        """Ends the output of an answer; one that nothing was heard of, as of a model, is printed whole."""
        if self.session.json:
            return
        if not self.spoke:
            self._speak(done.answer)
        self._end_line()

    def _speak(self, text: str) -> None:
        from holdfast.cli.render import block

        if text:
            self.session.out.print(block(text), end="", soft_wrap=True)
            self.session.out.file.flush()
            self.spoke, self.in_line = True, not text.endswith("\n")

    def _end_line(self) -> None:
        if self.in_line:
            self.session.out.print()
            self.in_line = False
