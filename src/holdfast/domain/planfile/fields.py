"""Reads the fields of one mapping as the types that the format gives them, and collects what is wrong with them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from holdfast.domain import permissions
from holdfast.domain.permissions import Policy, PolicyWord, Rule
from holdfast.domain.planfile.document import Mapping, Node, Place, Problem, Scalar, Sequence, named
from holdfast.domain.words import did_you_mean
from holdfast.errors import UsageError

MAX_TITLE = 200
MAX_SECONDS = 366 * 86400.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = re.compile(rf"(?:{_NUMBER}[smhd])+")
_FLOAT = re.compile(rf"[-+]?{_NUMBER}(?:[eE][-+]?[0-9]+)?")

Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(slots=True)
class Fields:
    """The fields of one mapping; every reader gives the default where the field is absent or wrong.

    `name` says what the mapping is, e.g. `task`.
    """

    name: str
    node: Mapping
    problems: list[Problem]
    values: dict[str, Node] = field(default_factory=dict[str, Node])

    @classmethod
    def of(cls, node: Node, name: str, known: Iterable[str], problems: list[Problem]) -> Fields:
        """Gives the fields of `node`, empty if it is no mapping, and complains about keys that are not known."""
        words = tuple(known)
        if not isinstance(node, Mapping):
            todo = f"write keys under it, e.g. {words[0]}: …"
            problems.append(Problem(node.at, f"a {name} is a mapping, this is {named(node)}", todo))
            return cls(name, Mapping(node.at, ()), problems)
        fields = cls(name, node, problems)
        for key, value in node.entries:
            if key.value in words:
                fields.values[key.value] = value
            else:
                message = f"a {name} has no key {key.value!r}"
                problems.append(Problem(key.at, message, did_you_mean(key.value, words)))
        return fields

    def complain(self, at: Place, message: str, todo: str = "") -> None:
        self.problems.append(Problem(at, message, todo))

    def place(self, key: str) -> Place:
        """Gives where the value of `key` stands, or the mapping itself if it has none."""
        return self.values[key].at if key in self.values else self.node.at

    def has(self, key: str) -> bool:
        return key in self.values

    def scalar(self, key: str) -> Scalar | None:
        """Gives the one value of a field that has to hold a single one."""
        node = self.values.get(key)
        if node is None:
            return None
        if isinstance(node, Scalar) and not node.null:
            return node
        self.complain(
            node.at, f"`{key}` has to be a single value, this is {named(node)}", "write it, or remove the key"
        )
        return None

    def text(self, key: str) -> str:
        """Gives a text exactly as written; one that is there may not be blank."""
        node = self.scalar(key)
        if node is None:
            return ""
        if not node.value.strip():
            self.complain(node.at, f"`{key}` is empty", "write something, or remove the key")
            return ""
        return node.value

    def line(self, key: str, *, required: bool = False) -> str:
        """Gives a text of one line without blanks around it."""
        if required and key not in self.values:
            self.complain(self.node.at, f"this {self.name} has no `{key}`", f"add `{key}: …`")
        text = self.text(key).strip()
        if len(text.splitlines()) > 1:
            self.complain(self.place(key), f"`{key}` has more than one line", "make it one line")
        elif len(text) > MAX_TITLE:
            self.complain(self.place(key), f"`{key}` is longer than {MAX_TITLE} characters", "shorten it")
        else:
            return text
        return text[:MAX_TITLE].splitlines()[0]

    def flag(self, key: str) -> bool | None:
        node = self.scalar(key)
        if node is None:
            return None
        word = node.value.lower()
        if word not in ("true", "false"):
            self.complain(node.at, f"`{key}` has to be true or false, not {node.value!r}", "write true or false")
            return None
        return word == "true"

    def choice(self, key: str, kind: type[Choice]) -> Choice | None:
        node = self.scalar(key)
        return self.one_of(key, node, kind) if node else None

    def one_of(self, key: str, node: Scalar, kind: type[Choice]) -> Choice | None:
        words = [str(each) for each in kind]
        if node.value in words:
            return kind(node.value)
        self.complain(node.at, f"`{key}` cannot be {node.value!r}", did_you_mean(node.value, words))
        return None

    def scalars(self, key: str) -> tuple[Scalar, ...]:
        """Gives the values of a list of single, non-empty values."""
        node = self.values.get(key)
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            self.complain(node.at, f"`{key}` has to be a list, this is {named(node)}", f"write `{key}: [ … ]`")
            return ()
        found: list[Scalar] = []
        for item in node.items:
            if isinstance(item, Scalar) and not item.null and item.value.strip():
                found.append(item)
            else:
                what = "empty" if isinstance(item, Scalar) else named(item)
                todo = "put a text that contains ': ' in quotes" if isinstance(item, Mapping) else "write a text"
                self.complain(item.at, f"an item of `{key}` is {what}", todo)
        return tuple(found)

    def nodes(self, key: str, *, of: str) -> tuple[Node, ...]:
        """Gives the items of a list that has to be there and may not be empty."""
        node = self.values.get(key)
        if node is None:
            self.complain(self.node.at, f"this {self.name} has no `{key}`", f"add `{key}:` with at least one {of}")
            return ()
        if isinstance(node, Sequence) and node.items:
            return node.items
        what = "empty" if isinstance(node, Sequence) or (isinstance(node, Scalar) and node.null) else named(node)
        self.complain(node.at, f"`{key}` has to be a list with at least one {of}, this is {what}", f"add a {of}")
        return ()

    def whole_number(self, key: str, low: int, high: int) -> int | None:
        node = self.scalar(key)
        if node is None:
            return None
        written = node.value.replace("_", "")
        if not re.fullmatch(r"[-+]?[0-9]{1,19}", written):
            self.complain(node.at, f"`{key}` has to be a whole number, not {node.value!r}", f"{low} to {high}")
            return None
        if not low <= int(written) <= high:
            self.complain(node.at, f"`{key}` cannot be {node.value}", f"{low} to {high}")
            return None
        return int(written)

    def amount(self, key: str) -> float | None:
        """Gives a number above 0."""
        node = self.scalar(key)
        if node is None:
            return None
        value = float(node.value) if _FLOAT.fullmatch(node.value) else None
        if value is None:
            self.complain(node.at, f"`{key}` has to be a number, not {node.value!r}", "e.g. 2.50")
        elif not 0 < value < math.inf:
            self.complain(node.at, f"`{key}` has to be more than 0", "remove the key for no limit")
        else:
            return value
        return None

    def seconds(self, key: str) -> float | None:
        """Gives a duration in seconds, written as a number of seconds or as `90s`, `15m`, `1h30m`, `2d`."""
        node = self.scalar(key)
        if node is None:
            return None
        value = duration(node.value)
        if value is None:
            self.complain(node.at, f"`{key}` is no duration: {node.value!r}", "seconds, or 90s, 15m, 1h30m, 2d")
        elif not 0 < value <= MAX_SECONDS:
            self.complain(node.at, f"`{key}` has to be more than 0 and at most a year", "remove the key for no limit")
        else:
            return value
        return None

    def policy(self, key: str) -> Policy | None:
        """Gives a permission policy, written as a word or as a list of rules and perhaps a word."""
        node = self.values.get(key)
        if node is None:
            return None
        entries: list[Rule | PolicyWord] = []
        items = node.items if isinstance(node, Sequence) else (node,)
        for item in items:
            try:
                entries.append(permissions.entry(_plain(item)))
            except UsageError as error:
                self.complain(item.at, error.message, error.hint)
        try:
            return permissions.made_of(entries) if len(entries) == len(items) else None
        except UsageError as error:
            self.complain(node.at, f"`{key}`: {error.message}", error.hint)
            return None


def _plain(node: Node) -> object:
    match node:
        case Scalar():
            return None if node.null else node.value
        case Mapping():
            return {key.value: _plain(value) for key, value in node.entries}
        case Sequence():
            return [_plain(item) for item in node.items]


def duration(text: str) -> float | None:
    """Gives the seconds of `90`, `90s`, `15m`, `1h30m` …; None if it is nothing of the kind."""
    if _FLOAT.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(rf"({_NUMBER})([smhd])", text))
