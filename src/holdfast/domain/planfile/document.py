"""YAML text as a tree of nodes that know their line and column; nothing is constructed, no tag is obeyed.

A scalar stays the text that was written: the format says what a value is, not YAML's guess, so `run: true` is the
command `true` and `VERSION: 1.10` keeps its nought. Limits on size, depth and the expansion of aliases hold while
the text is being read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

MAX_CHARACTERS = 4 << 20
MAX_DEPTH = 20
MAX_NODES = 200_000
MAX_PROBLEMS = 50

# Line feed, tab and carriage return apart, no control character belongs in a text file; a lone surrogate is no text.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_TAGS = frozenset(
    {"!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))}
)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})


class Place(NamedTuple):
    """A place in the file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the file, and what to do about it."""

    at: Place
    message: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.message} ({self.todo})" if self.todo else self.message


class BrokenDocument(Exception):
    """Raised for text that is no single readable YAML document; the rest of it cannot be judged."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Scalar:
    """One text; `null` if it was written as nothing. `span` are the offsets in the file between which it stands."""

    at: Place
    value: str
    null: bool = False
    span: tuple[int, int] = (0, 0)
    size: int = 1
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Sequence:
    at: Place
    items: tuple[Node, ...]
    size: int = 1
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Mapping:
    at: Place
    entries: tuple[tuple[Scalar, Node], ...]
    size: int = 1
    depth: int = 0


Node = Scalar | Sequence | Mapping


@dataclass(slots=True)
class _Composer:
    """Builds the nodes of one document from YAML events."""

    events: Iterator[Any]
    problems: list[Problem]
    anchors: dict[str, Node | None] = field(default_factory=dict[str, "Node | None"])
    nodes: int = 0

    def node(self, event: Any, depth: int) -> Node:
        """Gives the node that starts with `event`."""
        at = _place(event)
        if depth > MAX_DEPTH:
            raise BrokenDocument(Problem(at, f"nested deeper than {MAX_DEPTH} levels", "make it flatter"))
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event, at, depth)
        anchor: str | None = event.anchor
        if anchor:
            self.anchors[anchor] = None
        tag = getattr(event, "tag", None)
        if tag and tag not in _TAGS:
            self.problems.append(Problem(at, f"the tag {tag} has no meaning here", "remove it"))
        if kind == "ScalarEvent":
            built: Node = self._scalar(event, at)
        elif kind == "SequenceStartEvent":
            built = self._sequence(at, depth)
        else:
            built = self._mapping(at, depth)
        self._count(1, at)
        if anchor:
            self.anchors[anchor] = built
        return built

    def _count(self, more: int, at: Place) -> None:
        self.nodes += more
        if self.nodes > MAX_NODES:
            message = f"more than {MAX_NODES} values, aliases counted each time"
            raise BrokenDocument(Problem(at, message, "split the plan"))

    def _alias(self, event: Any, at: Place, depth: int) -> Node:
        name: str = event.anchor
        target = self.anchors.get(name)
        if target is None:
            todo = f"write &{name} before it" if name not in self.anchors else "an anchor cannot contain itself"
            raise BrokenDocument(Problem(at, f"the alias *{name} points at nothing", todo))
        if depth + target.depth > MAX_DEPTH:
            raise BrokenDocument(Problem(at, f"nested deeper than {MAX_DEPTH} levels", "make it flatter"))
        self._count(target.size, at)
        return target

    def _scalar(self, event: Any, at: Place) -> Scalar:
        value: str = event.value
        plain = event.style in (None, "") and event.tag in (None, "tag:yaml.org,2002:null")
        bad = _FORBIDDEN.search(value.replace("\r", "\x00"))
        if bad:
            message = f"the character U+{ord(value[bad.start()]):04X} cannot be part of a plan"
            self.problems.append(Problem(at, message, "remove it"))
        return Scalar(at, value, plain and value in _NULL, (event.start_mark.index, event.end_mark.index))

    def _sequence(self, at: Place, depth: int) -> Sequence:
        items: list[Node] = []
        while type(event := next(self.events)).__name__ != "SequenceEndEvent":
            items.append(self.node(event, depth + 1))
        size, deepest = _measure(items)
        return Sequence(at, tuple(items), size, deepest)

    def _mapping(self, at: Place, depth: int) -> Mapping:
        entries: list[tuple[Scalar, Node]] = []
        first: dict[str, Place] = {}
        while type(event := next(self.events)).__name__ != "MappingEndEvent":
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if isinstance(value, Scalar) and value.null and value.span[0] == value.span[1]:
                value = replace(value, at=key.at)  # YAML places what was not written at the next thing that was
            if not isinstance(key, Scalar):
                self.problems.append(Problem(key.at, "a key has to be a word", "write `key: value`"))
            elif key.value == "<<":
                self.problems.append(Problem(key.at, "merge keys (<<) are not supported", "use `defaults:`"))
            elif key.value in first:
                message = f"the key {key.value!r} is here twice, first in line {first[key.value].line}"
                self.problems.append(Problem(key.at, message, "remove one of them"))
            else:
                first[key.value] = key.at
                entries.append((key, value))
        size, deepest = _measure([node for entry in entries for node in entry])
        return Mapping(at, tuple(entries), size, deepest)


def read(text: str, problems: list[Problem]) -> Mapping:
    """Gives the one mapping that `text` holds; adds to `problems` what does not keep the rest from being judged."""
    if len(text) > MAX_CHARACTERS:
        message = f"the file has {len(text)} characters, more than {MAX_CHARACTERS}"
        raise BrokenDocument(Problem(Place(1, 1), message, "split the plan"))
    bad = _FORBIDDEN.search(text)
    if bad:
        message = f"the character U+{ord(bad[0]):04X} is not allowed in a text file"
        raise BrokenDocument(Problem(place_of(text, bad.start()), message, "remove it, or save the file as UTF-8"))
    events = _events(text)
    next(events)
    event = next(events)
    if type(event).__name__ == "StreamEndEvent":
        raise BrokenDocument(Problem(Place(1, 1), "the file is empty", "write `title:` and `phases:`"))
    start = next(events)
    root = _Composer(events, problems).node(start, 0)
    next(events)
    rest = next(events)
    if type(rest).__name__ != "StreamEndEvent":
        raise BrokenDocument(Problem(_place(rest), "a second document starts here", "one plan per file"))
    if not isinstance(root, Mapping):
        raise BrokenDocument(Problem(root.at, f"a plan is a mapping, this is {named(root)}", "write `title: …`"))
    return root


def place_of(text: str, offset: int) -> Place:
    """Gives line and column of a character."""
    line_start = text.rfind("\n", 0, offset) + 1
    return Place(text.count("\n", 0, offset) + 1, offset - line_start + 1)


def named(node: Node) -> str:
    """Says to people what kind of value a node is."""
    match node:
        case Scalar(null=True):
            return "nothing"
        case Scalar():
            return "a text"
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"


def _measure(nodes: list[Node]) -> tuple[int, int]:
    return 1 + sum(node.size for node in nodes), 1 + max((node.depth for node in nodes), default=0)


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _events(text: str) -> Iterator[Any]:
    """Gives ruamel's events; it is imported here because it costs more than the rest of `domain/` together."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml: Any = YAML(typ="safe", pure=True)
    try:
        yield from yaml.parse(text)
    except MarkedYAMLError as error:
        raise BrokenDocument(_broken(text, error)) from error
    except YAMLError as error:
        raise BrokenDocument(Problem(Place(1, 1), f"not readable as YAML: {error}", "check the syntax")) from error


def _broken(text: str, error: Any) -> Problem:
    mark = error.problem_mark or error.context_mark
    at = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
    lines = text.split("\n")
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    if line[at.column - 1 : at.column] == "\t" or line[: len(line) - len(line.lstrip())].count("\t"):
        return Problem(at, "a tab in the indentation", "indent with spaces")
    what = str(error.problem or "broken YAML").removeprefix("found ")
    context = f" {error.context}" if error.context else ""
    todo = "check quotes, colons and indentation"
    if "mapping values are not allowed" in what:
        todo = "put a text that contains ': ' in quotes, or check the indentation"
    elif "cannot start any token" in what:
        todo = "put the text in quotes"
    return Problem(at, f"broken YAML: {what}{context}", todo)
