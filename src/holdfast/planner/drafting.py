"""Ask for a draft, check it, send it back with what is wrong: the same for every drafter and every kind of draft."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from holdfast.domain.conversation import TokenUsage
from holdfast.errors import UserError

CORRECTIONS = 2
MAX_CHARACTERS = 1_000_000
_MAX_PROBLEMS = 30
_MAX_STARTS = 2_000

Shape = TypeVar("Shape", bound=BaseModel)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a drafter said, and what that took."""

    text: str
    usage: TokenUsage = field(default_factory=TokenUsage)


class Drafter(Protocol):
    """One conversation with whoever writes drafts. It changes nothing in the project.

    `name` is who is recorded as the author, e.g. "anthropic:claude-opus-5" or "agent:codex". A call says `prompt` and
    gives the whole answer, which should be one JSON object of `schema`, alone or within prose; a later call goes on
    with the same conversation, so that it may speak of the answer before. Raises
    `holdfast.errors` for all that can go wrong; cancelling the call stops the drafter.
    """

    @property
    def name(self) -> str: ...

    async def __call__(self, prompt: str, schema: Mapping[str, Any]) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Drafted(Generic[Result]):
    """A draft that passed its check, and how it came about; `answers` counts those that it took."""

    result: Result
    author: str
    prompt: str
    usage: TokenUsage
    answers: int


class Unusable(Exception):
    """Raised by a check for a draft that cannot be used; the text tells the drafter all that is wrong with it."""


async def draft(
    drafter: Drafter, prompt: str, shape: type[Shape], check: Callable[[Shape], Result], *, what: str
) -> Drafted[Result]:
    """Gives what `check` makes of the drafter's answer; one that does not fit is sent back, at most twice.

    `check` raises `Unusable` for a draft that has the right shape and cannot be used. After the last answer it is a
    `UserError` (code `draft_unusable`) that tells what was wrong with that one.
    """
    schema = shape.model_json_schema()
    usage = TokenUsage()
    asked = prompt
    problems = ""
    for answers in range(1, CORRECTIONS + 2):
        answer = await drafter(asked, schema)
        usage = add(usage, answer.usage)
        try:
            result = check(_read(answer.text, shape))
        except Unusable as unusable:
            problems = str(unusable)
            asked = _correction(problems)
            continue
        return Drafted(result, drafter.name, prompt, usage, answers)
    told = f"{drafter.name} gave no usable {what} in {CORRECTIONS + 1} answers"
    raise UserError(
        f"{told}; what is wrong with the last one:\n{problems}",
        hint="nothing was stored; say the request more plainly, or try another model with --model",
        code="draft_unusable",
    )


def add(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    """Gives both usages together; the cost only where both tell theirs, or one of them used nothing."""
    costs = [each.cost_usd for each in (one, other) if each.total_tokens or each.cost_usd is not None]
    known = [each for each in costs if each is not None]
    return TokenUsage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cached_tokens + other.cached_tokens,
        one.thought_tokens + other.thought_tokens,
        sum(known) if known and len(known) == len(costs) else None,
    )


def _correction(problems: str) -> str:
    return (
        "Your answer cannot be used. What is wrong with it:\n\n"
        f"{problems}\n\n"
        "Answer again with the whole corrected JSON object, not with the changes alone."
    )


def _read(text: str, shape: type[Shape]) -> Shape:
    if len(text) > MAX_CHARACTERS:
        raise Unusable(f"The answer has more than {MAX_CHARACTERS} characters.")
    known = set(shape.model_fields)
    found = next((each for each in _objects(text) if known & set(each)), None)
    if found is None:
        raise Unusable(f"There is no JSON object with {', '.join(sorted(known))} in the answer.")
    try:
        return shape.model_validate(found)
    except ValidationError as error:
        raise Unusable(_listed(error)) from error


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Gives the JSON objects in a text, outermost first: agents put theirs into a fenced block, or after a sentence."""
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(_MAX_STARTS):
        position = text.find("{", position)
        if position < 0:
            return
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            position += 1
            continue
        yield value
        position = end


def _listed(error: ValidationError) -> str:
    lines = [
        f"- {'.'.join(str(part) for part in each['loc']) or 'the object'}: {each['msg']}"
        for each in error.errors(include_url=False, include_input=False)
    ]
    more = [f"- and {len(lines) - _MAX_PROBLEMS} more"] if len(lines) > _MAX_PROBLEMS else []
    return "\n".join([*lines[:_MAX_PROBLEMS], *more])


def numbered(text: str) -> str:
    """Gives a text with its line numbers, as problems in it name them."""
    lines = re.sub(r"\n\Z", "", text).split("\n")
    return "\n".join(f"{number:4} {line}" for number, line in enumerate(lines, 1))
