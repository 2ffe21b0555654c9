"""Short names that people type for things: `P12`, `T31`, `A3`, step `7`, checkpoint `T31@4`, an id or its beginning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from holdfast.errors import UsageError

MIN_PREFIX = 4
MAX_NUMBER = 2**63 - 1

_NUMBERED = re.compile(r"([PTApta])([0-9]{1,19})")
_STEP = re.compile(r"#?([0-9]{1,19})")
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PREFIX = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{2,34}[0-9a-fA-F]")
_NAME = re.compile(r"[^\W_](?:[\w.-]{0,78}\w)?")


class Kind(StrEnum):
    PLAN = "plan"
    TASK = "task"
    APPROVAL = "approval"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class ByNumber:
    """`P12`, `T31`, `A3`, `7`: a kind of thing and its number."""

    kind: Kind
    number: int

    def __str__(self) -> str:
        return str(self.number) if self.kind is Kind.STEP else f"{self.kind.value[0].upper()}{self.number}"


@dataclass(frozen=True, slots=True)
class ById:
    """A whole id, or the beginning of one; lower case."""

    id: str
    whole: bool

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class ByName:
    """A plan's slug or a task's key."""

    name: str

    def __str__(self) -> str:
        return self.name


Reference = ByNumber | ById | ByName


@dataclass(frozen=True, slots=True)
class CheckpointReference:
    """`T31@4`, or `P12@2` for a stage: whose checkpoint, and its number."""

    owner: Reference
    number: int

    def __str__(self) -> str:
        return f"{self.owner}@{self.number}"


def parse(text: str, kind: Kind) -> Reference:
    """Gives what `text` refers to where a `kind` is wanted; raises `UsageError` if it can be nothing of that kind.

    A number alone is a number of that kind. A beginning of an id (4 characters and more, with a digit) wins over a
    name; whoever looks it up tries the name too when no id begins so.
    """
    word = text.strip()
    if match := _NUMBERED.fullmatch(word):
        named = {"p": Kind.PLAN, "t": Kind.TASK, "a": Kind.APPROVAL}[match[1].lower()]
        if named is kind:
            return ByNumber(kind, _number(match[2], text, kind))
        if kind in (Kind.STEP, Kind.APPROVAL) or word[0].isupper():
            raise UsageError(f"{text!r} is a {named}, a {kind} is wanted here", hint=_examples(kind))
    if match := _STEP.fullmatch(word):
        return ByNumber(kind, _number(match[1], text, kind))
    if _ID.fullmatch(word):
        return ById(word.lower(), whole=True)
    if _PREFIX.fullmatch(word) and any(character.isdigit() for character in word):
        return ById(word.lower(), whole=False)
    if kind in (Kind.PLAN, Kind.TASK) and _NAME.fullmatch(word):
        return ByName(word)
    raise UsageError(f"{text!r} does not refer to a {kind}", hint=_examples(kind))


def parse_checkpoint(text: str) -> CheckpointReference:
    """Gives whose checkpoint `text` means and which: `T31@4` of a task, `P12@2` a stage of a plan."""
    owner, at, number = text.strip().rpartition("@")
    if not at or not number.isascii() or not number.isdigit():
        raise UsageError(f"{text!r} does not refer to a checkpoint", hint="e.g. T31@4: checkpoint 4 of task T31")
    kind = Kind.PLAN if re.fullmatch(r"[Pp][0-9]+", owner) else Kind.TASK
    return CheckpointReference(parse(owner, kind), _number(number, text, kind))


def _number(digits: str, text: str, kind: Kind) -> int:
    number = int(digits) if len(digits) <= 19 else 0
    if not 1 <= number <= MAX_NUMBER:
        raise UsageError(f"{text!r} does not refer to a {kind}: numbers start at 1", hint=_examples(kind))
    return number


def _examples(kind: Kind) -> str:
    match kind:
        case Kind.PLAN:
            return "e.g. P12, its slug, or the beginning of its id"
        case Kind.TASK:
            return "e.g. T31, its key, or the beginning of its id"
        case Kind.APPROVAL:
            return "e.g. A3, or the beginning of its id"
        case Kind.STEP:
            return "e.g. 7, or the beginning of its id"
