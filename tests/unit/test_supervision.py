"""What a supervisor is told, and which of its questions are about Holdfast's own tools."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from holdfast.domain.conversation import Heard, ToolUsed
from holdfast.domain.planfile import parse, to_domain
from holdfast.domain.supervision import TOLD_TASKS, is_own_tool, standing

HEARD = Heard(1, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("title", "kind", "given", "own"),
    [
        ("mcp__holdfast__plan_get", "other", {}, True),
        ("task_add (holdfast MCP Server)", None, {}, True),
        ("history", "other", {"server": "holdfast"}, True),
        ("mcp__holdfast__plan_get", "execute", {}, False),
        ("holdfast task_add", "edit", {}, False),
        ("mcp__github__task_add", "other", {}, False),
        ("mcp__holdfast__rm", "other", {}, False),
    ],
)
def test_own_tools_are_known_by_their_names_and_never_run_or_edit(
    title: str, kind: str | None, given: Mapping[str, object], own: bool
) -> None:
    assert is_own_tool(ToolUsed(HEARD, "1", title=title, kind=kind, input=given)) is own


def test_a_large_plan_is_told_in_part_and_says_so() -> None:
    tasks = "".join(f"      - {{title: Task {number}, run: 'true'}}\n" for number in range(TOLD_TASKS + 3))
    file = parse(f"title: Large\nphases:\n  - title: All\n    tasks:\n{tasks}", source="plan")
    ids = iter(range(10_000))
    plan, phases, made = to_domain(file, ids=lambda: str(next(ids)), project_id="p", created_at=HEARD.at)
    told = standing(plan, phases, made)
    assert "[3 more tasks are left out]" in told
    assert "Task 199:" in told
    assert "Task 200:" not in told
