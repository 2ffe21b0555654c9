"""Reviews of a plan's result: what a reviewer is asked, how its answer is read, and what follows from it.

A round of review is a phase that the engine adds: its first task reads and judges, and where changes are needed, a
second one makes them. So a review has steps, a conversation, a cost and a recovery like any other work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from holdfast.domain.plan import GateName, GateOrder, Phase, Plan
from holdfast.domain.prompt import REPORT_CHARACTERS, quoted, shortened
from holdfast.domain.task import Task
from holdfast.domain.transitions import TaskStatus

DIFF_CHARACTERS = 60_000
# A reviewer whose answer cannot be read is asked again this often.
ASKED_AGAIN = 2
MOST_FINDINGS = 50
FINDING_CHARACTERS = 2000
# What is looked through for a verdict: the end of an answer, and so many places where an object may begin.
_ANSWER_CHARACTERS = 100_000
_TRIES = 1000

ANSWER = """Answer with your verdict in one fenced block of JSON, and nothing after it:

```json
{"verdict": "approved", "findings": []}
```

or, if something has to change before this is done:

```json
{"verdict": "changes_needed", "findings": [{"file": "path/to/file", "line": 12, "problem": "what is wrong, and how \
it should be"}]}
```"""


class Verdict(StrEnum):
    APPROVED = "approved"
    CHANGES_NEEDED = "changes_needed"


_WORDS = {
    "approve": Verdict.APPROVED,
    "approved": Verdict.APPROVED,
    "changes_needed": Verdict.CHANGES_NEEDED,
    "changes_requested": Verdict.CHANGES_NEEDED,
    "changes_required": Verdict.CHANGES_NEEDED,
    "request_changes": Verdict.CHANGES_NEEDED,
}


@dataclass(frozen=True, slots=True)
class Review:
    """What a reviewer says of the whole; `findings` in its order, each one text, none where it approves."""

    verdict: Verdict
    findings: tuple[str, ...] = ()


# -- rounds ----------------------------------------------------------------------------------------------------------


def next_round(phases: Sequence[Phase]) -> int:
    return 1 + max((phase.review_round for phase in phases), default=0)


def may_change(plan: Plan, phase: Phase) -> bool:
    """Tells whether the findings of this round go back to be worked on; after the last round a person decides."""
    return phase.review_round < plan.review_rounds


def gate_follows(plan: Plan) -> bool:
    """Tells whether a person will see the reviewed result anyway."""
    return GateName.RESULT in plan.gates and plan.gate_order is GateOrder.REVIEW_THEN_APPROVE


# -- what is asked ---------------------------------------------------------------------------------------------------


def review_prompt(plan: Plan, tasks: Sequence[Task], diff: str, before: Sequence[str] = ()) -> str:
    """Gives what the reviewer is asked: the plan, what was done for it, the difference; `before`: earlier findings."""
    done = "\n".join(
        f"- {task.title}{'' if task.status is TaskStatus.COMPLETED else f' ({task.status})'}" for task in tasks
    )
    parts = [
        f"# Review the plan “{plan.title}”",
        "You are the reviewer. The current folder holds the result. Look at whatever you need, but change nothing: you "
        "may read and search, edits and commands are refused. Judge whether the result does what the plan wants, "
        "whether it is correct, and whether anything is missing, broken or left over. Name only what has to change.",
        f"## What the plan wants\n{quoted(plan.description.strip())}" if plan.description.strip() else "",
        f"## Its tasks\n{done}",
        "## What was found before\nIt was to be put right since then; see whether it was.\n" + listed(before)
        if before
        else "",
        "## What was changed\n" + quoted(shortened(diff, DIFF_CHARACTERS) if diff else "(nothing)"),
        f"## Your answer\n{ANSWER}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def again_prompt() -> str:
    """Gives what a reviewer is told whose answer could not be read."""
    return (
        "Your verdict could not be read. `verdict` has to be `approved` or `changes_needed`, and whoever needs changes "
        f"names at least one finding. {ANSWER}\n"
    )


def changes_instructions(review: Review) -> str:
    """Gives the instructions of the task that makes the changes a review wants."""
    return (
        "A reviewer looked at the result of this plan and wants it changed. Look into each finding: make the change "
        f"where it is right, and say at the end what you did not do and why.\n\n{listed(review.findings)}"
    )


def checks_instructions(error: str) -> str:
    """Gives the instructions of the task that puts right what the plan's own checks found."""
    return (
        "The tasks of this plan are done, but one of its own checks fails. Find out why, and put it right.\n\n"
        f"{quoted(shortened(error, REPORT_CHARACTERS))}"
    )


def listed(findings: Sequence[str]) -> str:
    return "\n".join(f"{number}. {finding}" for number, finding in enumerate(findings, 1))


# -- what is answered ------------------------------------------------------------------------------------------------

_FENCED = re.compile(r"^[ \t]*```[\w-]*[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


def read_review(text: str) -> Review | None:
    """Gives the last verdict that an answer holds, None if it holds none; how it is wrapped matters little."""
    return next((review for value in _values(text) if (review := _review(value)) is not None), None)


def _values(text: str) -> Iterator[object]:
    """Gives the JSON objects of a text, the likeliest first: the last fenced block, then what stands in the open."""
    end = text[-_ANSWER_CHARACTERS:]
    for block in reversed(_FENCED.findall(end)):
        yield from _objects(block)
    yield from _objects(end)


def _objects(text: str) -> Iterator[object]:
    decoder = json.JSONDecoder()
    found: list[object] = []
    start = text.find("{")
    for _ in range(_TRIES):
        if start < 0:
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            found.append(value)
        start = text.find("{", end)
    return reversed(found)


def _review(value: object) -> Review | None:
    if not isinstance(value, Mapping):
        return None
    given = cast("Mapping[str, object]", value)
    word = re.sub(r"[\s-]+", "_", str(given.get("verdict", "")).strip().lower())
    verdict = _WORDS.get(word)
    findings = _findings(given.get("findings"))
    if verdict is Verdict.APPROVED:
        return Review(verdict)
    return Review(verdict, findings) if verdict is not None and findings else None


def _findings(value: object) -> tuple[str, ...]:
    each = cast("Sequence[object]", value) if isinstance(value, list) else [value]
    texts = (_finding(one) for one in each)
    return tuple(shortened(text, FINDING_CHARACTERS) for text in texts if text)[:MOST_FINDINGS]


def _finding(value: object) -> str:
    """Gives one finding as a text: where it is, then what it is, whatever the reviewer calls it."""
    if isinstance(value, str):
        return value.strip()
    if not isinstance(value, Mapping):
        return ""
    given = cast("Mapping[str, object]", value)
    place = next((str(given[name]) for name in ("file", "path") if given.get(name)), "")
    if place and given.get("line"):
        place = f"{place}:{given['line']}"
    said = [str(text).strip() for name, text in given.items() if name not in ("file", "path", "line") and text]
    return ": ".join(part for part in (place, "; ".join(said)) if part)
