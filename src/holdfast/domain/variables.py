"""`{{ NAME }}` in commands and instructions: the plan's variables, put in when a task starts.

Only two braces around one name are ours; `$VAR`, `${VAR}`, `${{ a.b }}` and `{{ .Field }}` mean what they meant.
`{{{{ NAME }}}}` stands for a literal `{{ NAME }}`. The value goes in as it is: in a shell command, quote the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from holdfast.errors import UsageError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACE = re.compile(r"\{\{(?P<literal>\{\{[^{}\n]*\}\})\}\}|\{\{[ \t]*(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*\}\}")


@dataclass(frozen=True, slots=True)
class Place:
    """One `{{ NAME }}`: the name, how it is written, and its offset in the text."""

    name: str
    written: str
    offset: int


def places(text: str) -> Iterator[Place]:
    """Gives every place of `text` where a variable is to be put in."""
    for match in _PLACE.finditer(text):
        if match["name"]:
            yield Place(match["name"], match[0], match.start())


def fill(text: str, variables: Mapping[str, str]) -> str:
    """Gives `text` with every variable put in; raises `UsageError` if one is not defined."""

    def value(match: re.Match[str]) -> str:
        name = match["name"]
        if not name:
            return match["literal"]
        if name not in variables:
            raise UsageError(f"the variable {name!r} is not defined", hint="define it under `variables:` of the plan")
        return variables[name]

    return _PLACE.sub(value, text)
