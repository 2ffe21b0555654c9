"""`supervisor …`: questions to who answers for a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import noun
from holdfast.cli.planning_commands import refuse_both
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.supervisor import Answered
    from holdfast.domain.conversation import Update
    from holdfast.engine.inquiries import Inquiry

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


@supervisor.verb("resume", example="holdfast supervisor resume P1")
@plan_argument
def resume(session: Session, plan: str) -> int:
    """Go on with a question that was cut off, because the command that asked it was killed."""
    from holdfast.app import plans
    from holdfast.app import supervisor as verbs
    from holdfast.cli.render import say

    voice = Voice(session)
    with session.house() as house:
        done = verbs.resume(house, plans.find(house, plan), tell=voice.tell, on_wait=voice.waits)
    if session.json:
        session.document({"items": done})
        return 0
    for each in done:
        voice.end(each)
        if each.error:
            say(session.err, f"no answer: {each.error}", style="red")
    if not done:
        say(session.out, "nothing was cut off")
    return 0


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
