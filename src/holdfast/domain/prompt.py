"""What an agent is told: the prompt of a task, and a conversation told again to a session that does not know it.

What other agents and commands said is quoted line by line, so that it reads as what it is: a report, no instruction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from holdfast.domain.conversation import Message, MessageRole
from holdfast.domain.plan import Plan
from holdfast.domain.task import Task
from holdfast.domain.variables import fill

REPORT_CHARACTERS = 4000
RESUMED_CHARACTERS = 60_000
SPEECH_CHARACTERS = 8000
RESULT_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class DependencyResult:
    """What came of a task that this one depends on: what its agent said last, its commit's title, its diff stat."""

    title: str
    said: str = ""
    commit: str = ""
    changed: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt that failed: its number, why it failed, what its agent said last, what it had changed."""

    attempt: int
    error: str
    said: str = ""
    changed: str = ""


def task_prompt(
    task: Task,
    plan: Plan,
    variables: Mapping[str, str],
    results: Sequence[DependencyResult] = (),
    tried: Sequence[Tried] = (),
    *,
    secret: Collection[str] = (),
    may_ask: bool = False,
) -> str:
    """Gives the first prompt of a task's session; the values of the variables named in `secret` are not in the list.

    `may_ask` says that its agent has the tool to ask a person.
    """
    parts = [f"# {task.title}", fill(task.instructions, variables).strip()]
    goal = plan.description.strip()
    parts.append(
        f"This is one task of the plan “{plan.title}”." + (f" The plan's aim:\n{quoted(goal)}" if goal else "")
    )
    parts.append(
        "Work in the current folder only. What you leave there is committed for you: do not commit, push or switch "
        f"branches. {_ASK if may_ask else _ALONE}"
    )
    if variables:
        shown = {name: "(in the environment)" if name in secret else _line(variables[name]) for name in variables}
        parts.append("## Variables\n" + "\n".join(f"- {name} = {value}" for name, value in shown.items()))
    if task.verify:
        checks = "\n".join(f"- `{fill(command, variables)}`" for command in task.verify)
        parts.append(f"## Done means\nThese commands succeed:\n{checks}")
    if results:
        parts.append("## What was done before\n" + "\n\n".join(_result(result) for result in results))
    if tried:
        parts.append(
            "## What was tried before\nThis task was tried and failed; the folder is as the last attempt left it. Do "
            "not repeat what did not work.\n" + "\n\n".join(_attempt(each) for each in tried)
        )
    return "\n\n".join(part for part in parts if part) + "\n"


_ALONE = "Nobody may be there to answer: where something is open, choose what fits best and say so at the end."
_ASK = (
    "Nobody reads along: where something is open, choose what fits best and say so at the end. What only a person can "
    "decide, ask with the tool `ask_person`; the answer may take long."
)


def _result(result: DependencyResult) -> str:
    told = [f"### {result.title}"]
    if result.commit:
        told.append(f"Commit: {_line(result.commit)}")
    return "\n".join([*told, *_report(result.said, result.changed)])


def _attempt(tried: Tried) -> str:
    error = quoted(shortened(tried.error, REPORT_CHARACTERS))
    return "\n".join([f"### Attempt {tried.attempt}", "It failed:", error, *_report(tried.said, tried.changed)])


def _report(said: str, changed: str) -> list[str]:
    told: list[str] = []
    if changed:
        told += ["It changed:", quoted(shortened(changed, REPORT_CHARACTERS))]
    if said:
        told += ["Its agent said at the end:", quoted(shortened(said, REPORT_CHARACTERS))]
    return told


LOST = (
    "You have worked on this task before; the session was lost. The folder is as you left it. This is the record of "
    "the conversation. Go on from its end, and do not repeat what is done."
)
TRUNK = (
    "The work goes on from an earlier conversation, which your session does not know. This is the record of it, up to "
    "the point to go on from. The folder may have changed since: look at it first, and do not repeat what is done."
)
TAKEN_UP = (
    "The work on this task goes on from here. The folder may have changed since your last turn: look at it before you "
    "rely on it."
)
FORKED = (
    "This is a fork: an own copy of the folder and of this conversation. Work in the current folder only; a path of "
    "the conversation before that leads elsewhere is not yours to change. The task from here on:"
)


def resumed_prompt(messages: Sequence[Message], limit: int = RESUMED_CHARACTERS, *, why: str = LOST) -> str:
    """Gives the prompt that lets a new session go on with a conversation (oldest message first): the newest of it.

    A tool call is never told without its result.
    """
    return f"{why}\n\n{record(messages, limit)}\n\nEnd of the record. Go on.\n"


def record(messages: Sequence[Message], limit: int = RESUMED_CHARACTERS) -> str:
    """Gives a conversation (oldest message first) as a report to whoever took part in it: the newest of it."""
    entries = _entries(messages)
    first, room = len(entries), limit
    while first > 0 and (room := room - len(entries[first - 1])) >= 0:
        first -= 1
    gap = [f"[{first} earlier entries are left out]"] if first else []
    return "\n\n".join([*gap, *entries[first:]])


def added(prompt: str, context: str) -> str:
    """Gives the prompt with what a person adds to it, last: it counts most."""
    return f"{prompt.rstrip()}\n\n## What a person adds\n{context.strip()}\n" if context.strip() else prompt


def _entries(messages: Sequence[Message]) -> list[str]:
    entries: list[str] = []
    for message in messages:
        entry = _told_again(message)
        if message.role is MessageRole.TOOL and entries and entry:
            entries[-1] = f"{entries[-1]}\n{entry}"
        elif entry:
            entries.append(entry)
    return entries


def _told_again(message: Message) -> str:
    """Gives a message for the record; nothing for thoughts and for what only people read."""
    if message.thought or message.role is MessageRole.SYSTEM:
        return ""
    if message.role is MessageRole.TOOL:
        result = shortened(message.tool_result or "(nothing)", RESULT_CHARACTERS)
        return f"{'Error' if message.is_error else 'Result'}:\n{quoted(result)}"
    if message.tool_calls:
        return "\n".join(f"You used a tool: {_line(str(call.get('name', '')))}" for call in message.tool_calls)
    speaker = "You were asked" if message.role is MessageRole.USER else "You said"
    return f"{speaker}:\n{quoted(shortened(message.content, SPEECH_CHARACTERS))}"


def shortened(text: str, limit: int) -> str:
    """Gives the text with its middle left out where it is longer than `limit`; the end is where results are."""
    if len(text) <= limit:
        return text
    head = limit // 3
    tail = limit - head
    return f"{text[:head]}\n[… {len(text) - limit} characters left out …]\n{text[-tail:]}"


def quoted(text: str) -> str:
    """Gives the text as a report that somebody else wrote."""
    return "\n".join(f"> {line}".rstrip() for line in text.strip("\n").split("\n"))


def _line(text: str) -> str:
    return shortened(" ".join(text.split()), 300)
