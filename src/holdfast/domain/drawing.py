"""Draws the tables of `transitions.py` as the page `docs/states.md`; a test keeps the page up to date.

uv run python -c "from holdfast.domain.drawing import states_page as page; print(page(), end='')" > docs/states.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from holdfast.domain.transitions import APPROVAL, PHASE, PLAN_STAGE, PLAN_STATUS, TASK

_MACHINES: Sequence[tuple[str, str, Mapping[StrEnum, Sequence[StrEnum]]]] = (
    ("Plan: status", "Where the run is. `waiting` is `running` with an open gate.", {**PLAN_STATUS}),
    ("Plan: stage", "How far the work has come. Stages that a plan does not use are passed through.", {**PLAN_STAGE}),
    ("Phase", "Completed only if every task is completed or skipped.", {**PHASE}),
    ("Task", "`failed` → `completed` is a fix by hand; back to `pending` leads a retry or a rewind.", {**TASK}),
    ("Approval", "A gate is decided once.", {**APPROVAL}),
)


def states_page() -> str:
    """Gives the whole page: a Mermaid drawing and a table for each state machine."""
    parts = [
        "# States",
        "",
        "Generated from `src/holdfast/domain/transitions.py`; the schema's constraints are made of the same tables.",
        "A change that is not drawn here is refused: exit code 3, HTTP 409.",
    ]
    for title, note, table in _MACHINES:
        parts += ["", f"## {title}", "", note, "", "```mermaid", "stateDiagram-v2"]
        parts.append(f"    [*] --> {next(iter(table))}")
        parts += [f"    {source} --> {target}" for source, targets in table.items() for target in targets]
        parts += [f"    {source} --> [*]" for source, targets in table.items() if not targets]
        parts += ["```", "", "| from | to |", "|---|---|"]
        parts += [f"| `{source}` | {_targets(targets)} |" for source, targets in table.items()]
    return "\n".join(parts) + "\n"


def _targets(targets: Sequence[StrEnum]) -> str:
    return ", ".join(f"`{target}`" for target in targets) or "nothing: final"
