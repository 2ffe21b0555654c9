"""The `when:` language of phases: small, typed, and never handed to an interpreter.

    expression  = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | "true" | "false" | "(" expression ")" | comparison
    comparison  = text ( "==" | "!=" ) text
    text        = "…" | '…' | variables.NAME | task("key").status | phase("title").status

Text compares with text, exactly. In a quoted text a backslash keeps the next character as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

from holdfast.domain.plan import Phase, Plan
from holdfast.domain.task import Task
from holdfast.domain.transitions import PhaseStatus, TaskStatus
from holdfast.domain.words import did_you_mean
from holdfast.errors import UsageError

MAX_CHARACTERS = 4000
MAX_DEPTH = 40


class ConditionError(UsageError):
    """A condition that cannot be read or has no answer; `offset` counts characters from 0."""

    default_code = "condition"

    def __init__(self, message: str, *, hint: str = "", offset: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Literal:
    value: str
    offset: int


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class StatusOfTask:
    key: str
    offset: int


@dataclass(frozen=True, slots=True)
class StatusOfPhase:
    title: str
    offset: int


Text = Literal | Variable | StatusOfTask | StatusOfPhase


@dataclass(frozen=True, slots=True)
class Constant:
    value: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    left: Text
    right: Text
    equal: bool


@dataclass(frozen=True, slots=True)
class Not:
    part: Expression


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Expression, ...]


Expression = Constant | Comparison | Not | And | Or


@lru_cache(maxsize=256)
def parse(source: str) -> Expression:
    """Gives the expression that `source` spells, or raises `ConditionError` with the place of the first mistake."""
    if len(source) > MAX_CHARACTERS:
        raise ConditionError(f"the condition is longer than {MAX_CHARACTERS} characters", hint="shorten it")
    return _Parser(source).whole()


def evaluate(
    expression: Expression,
    variables: Mapping[str, str],
    task_statuses: Mapping[str, str],
    phase_statuses: Mapping[str, str],
) -> bool:
    """Gives the answer; raises `ConditionError` if it names a variable, task key or phase title that is not there."""

    def text(operand: Text) -> str:
        match operand:
            case Literal(value):
                return value
            case Variable(name, offset):
                return _look_up(variables, name, "variable", offset)
            case StatusOfTask(key, offset):
                return _look_up(task_statuses, key, "task", offset)
            case StatusOfPhase(title, offset):
                return _look_up(phase_statuses, title, "phase", offset)

    match expression:
        case Constant(value):
            return value
        case Comparison(left, right, equal):
            return (text(left) == text(right)) is equal
        case Not(part):
            return not evaluate(part, variables, task_statuses, phase_statuses)
        case And(parts):
            return all(evaluate(part, variables, task_statuses, phase_statuses) for part in parts)
        case Or(parts):
            return any(evaluate(part, variables, task_statuses, phase_statuses) for part in parts)
        case _:
            assert_never(expression)


def holds(source: str, plan: Plan, phases: Sequence[Phase], tasks: Sequence[Task]) -> bool:
    """Evaluates a phase's condition against the plan as it is now; of phases with one title the first counts."""
    by_title = {phase.title: phase.status.value for phase in sorted(phases, key=lambda each: -each.position)}
    by_key = {task.key: task.status.value for task in tasks}
    return evaluate(parse(source), plan.variables, by_key, by_title)


def operands(expression: Expression) -> tuple[Text, ...]:
    """Gives every text that the expression looks at, from left to right."""
    match expression:
        case Constant():
            return ()
        case Comparison(left, right):
            return (left, right)
        case Not(part):
            return operands(part)
        case And(parts) | Or(parts):
            return tuple(operand for part in parts for operand in operands(part))


def _look_up(values: Mapping[str, str], name: str, kind: str, offset: int) -> str:
    if name not in values:
        raise ConditionError(f"there is no {kind} {name!r}", hint=did_you_mean(name, values), offset=offset)
    return values[name]


_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<word>[^\W\d]\w*)|(?P<sign>==|!=|[().])|(?P<bad>\S))""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    value: str
    offset: int


def _tokens(source: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while match := _TOKEN.match(source, position):
        kind = match.lastgroup or ""
        offset = match.start(kind)
        if kind == "bad":
            character = match[kind]
            if character in "\"'":
                raise ConditionError("this text has no closing quote", hint=f"end it with {character}", offset=offset)
            hint = "compare with == or !=" if character in "=<>!" else "put texts and numbers in quotes"
            raise ConditionError(f"unexpected {character!r}", hint=hint, offset=offset)
        found.append(_Token(kind, match[kind], offset))
        position = match.end()
    found.append(_Token("end", "the end", len(source.rstrip())))
    return found


class _Parser:
    """Reads one condition by recursive descent; a method per rule of the grammar above."""

    def __init__(self, source: str) -> None:
        self._tokens = _tokens(source)
        self._next = 0
        self._depth = 0

    def whole(self) -> Expression:
        expression = self._expression()
        if self._peek().kind != "end":
            raise self._error("expected 'and', 'or' or the end", "")
        return expression

    def _expression(self) -> Expression:
        parts = [self._conjunction()]
        while self._take("word", "or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _conjunction(self) -> Expression:
        parts = [self._negation()]
        while self._take("word", "and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _negation(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH}", "make it flatter")
        try:
            if self._take("word", "not"):
                return Not(self._negation())
            for word in ("true", "false"):
                if self._take("word", word):
                    return Constant(word == "true")
            if self._take("sign", "("):
                inner = self._expression()
                self._need(")")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Comparison:
        left = self._text()
        for sign in ("==", "!="):
            if self._take("sign", sign):
                right = self._text()
                self._check_status(left, right)
                self._check_status(right, left)
                return Comparison(left, right, sign == "==")
        raise self._error("expected == or !=", 'a text is not a condition: compare it, e.g. == "yes"')

    def _text(self) -> Text:
        token = self._peek()
        if token.kind == "text":
            self._next += 1
            return Literal(re.sub(r"\\(.)", r"\1", token.value[1:-1], flags=re.DOTALL), token.offset)
        if self._take("word", "variables"):
            self._need(".")
            name = self._peek()
            if name.kind != "word":
                raise self._error("expected the name of a variable", "write variables.NAME")
            self._next += 1
            return Variable(name.value, token.offset)
        for word in ("task", "phase"):
            if self._take("word", word):
                return self._status_of(word, token.offset)
        hint = 'write "a text" in quotes, variables.NAME, task("key").status or phase("title").status'
        raise self._error("expected something to compare", hint)

    def _status_of(self, kind: str, offset: int) -> Text:
        self._need("(")
        name = self._peek()
        if name.kind != "text":
            raise self._error(f"expected the {'key' if kind == 'task' else 'title'} of a {kind} in quotes", "")
        literal = self._text()
        assert isinstance(literal, Literal)
        self._need(")")
        self._need(".")
        if not self._take("word", "status"):
            raise self._error("expected 'status'", f'write {kind}("…").status')
        return StatusOfTask(literal.value, offset) if kind == "task" else StatusOfPhase(literal.value, offset)

    def _check_status(self, status: Text, literal: Text) -> None:
        """Refuses to compare a status with a word that no status ever is."""
        if not isinstance(literal, Literal) or not isinstance(status, StatusOfTask | StatusOfPhase):
            return
        known = [str(each) for each in (TaskStatus if isinstance(status, StatusOfTask) else PhaseStatus)]
        if literal.value not in known:
            hint = did_you_mean(literal.value, known)
            raise ConditionError(f"{literal.value!r} is not a status", hint=hint, offset=literal.offset)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, kind: str, value: str) -> bool:
        token = self._peek()
        taken = token.kind == kind and token.value == value
        self._next += taken
        return taken

    def _need(self, sign: str) -> None:
        if not self._take("sign", sign):
            raise self._error(f"expected {sign!r}", "")

    def _error(self, message: str, hint: str) -> ConditionError:
        token = self._peek()
        return ConditionError(f"{message}, found {token.value}", hint=hint, offset=token.offset)
