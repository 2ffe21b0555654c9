"""What people type for a checkpoint: `4`, `T31@4`, `latest`, a stage, its name, or how its id or its commit begins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.domain.checkpoint import Checkpoint
from holdfast.errors import UsageError

LATEST = "latest"
_SHOWN = 8

_NUMBERED = re.compile(r"(?:(?P<owner>[TPtp][0-9]{1,9})?@)?(?P<number>[0-9]{1,9})")
_ID = re.compile(r"[0-9a-f][0-9a-f-]{3,35}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """All that a text may mean. `owner` is "T31" or "P12" where it says whose checkpoint it is; empty = it may not be.

    `id` and `commit` are beginnings; whatever the text is, it may be a name too (a stage has its checkpoint's name).
    """

    text: str
    owner: str = ""
    number: int | None = None
    latest: bool = False
    id: str = ""
    commit: str = ""


def read(text: str) -> Reference:
    """Gives what the text may mean; raises `UsageError` for an empty one."""
    text = text.strip()
    if not text:
        raise UsageError("a checkpoint has to be named", hint="by its number, name, commit, or as: latest")
    numbered = _NUMBERED.fullmatch(text)
    low = text.lower()
    return Reference(
        text=text,
        owner=(numbered["owner"] or "").upper() if numbered else "",
        number=int(numbered["number"]) if numbered else None,
        latest=low == LATEST,
        id=low if _ID.fullmatch(low) else "",
        commit=low if _COMMIT.fullmatch(low) else "",
    )


def label(owner: str, checkpoint: Checkpoint) -> str:
    """Gives the short name of a checkpoint, as "T31@4"; `owner` is its task's or its plan's."""
    return f"{owner}@{checkpoint.number}"


def only(text: str, found: Sequence[tuple[str, Checkpoint]]) -> Checkpoint:
    """Gives the one that was found; raises `UsageError` that lists them, each with its label, if there are several."""
    if len(found) == 1:
        return found[0][1]
    told = [f"{name} ({each.kind}{f' {each.name!r}' if each.name else ''})" for name, each in found[:_SHOWN]]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    listed = ", ".join(told) + more
    raise UsageError(f"'{text}' is ambiguous: {listed}", hint="type one of these", code="ambiguous")
