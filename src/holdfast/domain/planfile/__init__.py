"""Plan files: YAML ⇄ plan. Contract:

- `parse(text, source=…)` gives a `PlanFile` or raises one `UsageError` that lists every problem, a line each, as
  `source:line:column: what is wrong (what to do)`. No text, however broken or hostile, does anything else.
- `render(planfile)` gives the text back: `parse(render(x)) == x`.
- `values(planfile)` gives it as plain mappings, lists and texts, which `read_values` reads, changed or not: with the
  same rules and the same errors as a file, for those who edit a plan piece by piece.
- `policy(text)` reads a permission policy alone, as a person writes it on a command line.
- `to_domain` makes the rows of a new plan of it, `from_domain` the plan file of stored rows (`plan export`).
- `fill(text, variables)` puts the plan's variables in, when a task starts.
- `schema()` is the format as JSON Schema.

The format is told to users in `docs/plan-files.md`. Inside: `document` (YAML → nodes with places), `fields` (a node's
field as a type), `reading` (nodes → spec), `checking` (do the parts fit), `writing`, `rows`, `schema`.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import replace
from typing import Any

from holdfast.domain.permissions import Policy
from holdfast.domain.planfile.checking import check_plan
from holdfast.domain.planfile.document import MAX_PROBLEMS, BrokenDocument, Mapping, Node, Problem, Sequence, read
from holdfast.domain.planfile.fields import Fields
from holdfast.domain.planfile.reading import read_plan
from holdfast.domain.planfile.rows import from_domain, to_domain
from holdfast.domain.planfile.schema import schema
from holdfast.domain.planfile.spec import Defaults, PhaseSpec, PlanFile, TaskSpec
from holdfast.domain.planfile.writing import flow, render
from holdfast.domain.variables import fill
from holdfast.errors import UsageError

__all__ = [
    "Defaults",
    "PhaseSpec",
    "PlanFile",
    "TaskSpec",
    "fill",
    "from_domain",
    "parse",
    "policy",
    "read_values",
    "render",
    "schema",
    "to_domain",
    "values",
]


def parse(text: str, *, source: str) -> PlanFile:
    """Gives the plan that `text` says; `source` is the name that errors show, e.g. the file's path."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    problems: list[Problem] = []
    try:
        plan = read_plan(read(text, problems), problems)
    except BrokenDocument as broken:
        raise _error([*problems, broken.problem], source) from broken
    problems.extend(check_plan(plan, text))
    if problems:
        raise _error(problems, source)
    return replace(plan.spec, text=text)


def values(planfile: PlanFile) -> dict[str, Any]:
    """Gives what the plan file says as plain mappings, lists and texts under the keys of the format."""
    return _plain(read(render(planfile, keys=True), []))


def _plain(node: Node) -> Any:
    match node:
        case Mapping():
            return {key.value: _plain(value) for key, value in node.entries}
        case Sequence():
            return [_plain(item) for item in node.items]
        case _:
            return node.value


def read_values(changed: Map[str, object]) -> PlanFile:
    """Gives the plan that such values say; errors as those of `parse`, without places, since there is no file."""
    return parse(flow(changed), source="")


def policy(text: str) -> Policy:
    """Gives the permission policy that `text` says, as it would stand after `permissions:`; raises `UsageError`."""
    problems: list[Problem] = []
    try:
        fields = Fields.of(read(f"permissions: {text}", problems), "policy", ("permissions",), problems)
        found = fields.policy("permissions")
    except BrokenDocument as broken:
        raise _error([broken.problem], "") from broken
    if problems or found is None:
        raise _error(problems, "")
    return found


def _error(problems: list[Problem], source: str) -> UsageError:
    """Gives one error that lists the problems in the order of the file."""
    lines = dict.fromkeys(_line(each, source) for each in sorted(problems, key=_place))
    shown = list(lines)[:MAX_PROBLEMS]
    if len(lines) > len(shown):
        shown.append(f"{source or 'plan'}: and {len(lines) - len(shown)} more")
    hint = "the format is described in docs/plan-files.md"
    return UsageError("\n".join(shown), hint=hint, code="plan_file")


def _line(problem: Problem, source: str) -> str:
    return f"{source}:{problem.at.line}:{problem.at.column}: {problem}" if source else str(problem)


def _place(problem: Problem) -> tuple[int, int]:
    return problem.at
