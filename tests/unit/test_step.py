from __future__ import annotations

from typing import Any

import pytest
from tests.unit.builders import NOW, make_step

from holdfast.domain.step import StepState, parent_of_next, state


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, StepState.RUNNING),
        ({"ended_at": NOW, "exit_code": 0}, StepState.COMPLETED),
        ({"ended_at": NOW, "exit_code": 1}, StepState.FAILED),
        ({"ended_at": NOW, "exit_code": None}, StepState.FAILED),
        ({"ended_at": NOW, "interrupted": True}, StepState.INTERRUPTED),
        ({"ended_at": NOW, "exit_code": 0, "active": False}, StepState.ROLLED_BACK),
        ({"ended_at": NOW, "interrupted": True, "active": False}, StepState.ROLLED_BACK),
    ],
)
def test_the_state_follows_from_the_fields(changes: dict[str, Any], expected: StepState) -> None:
    assert state(make_step(1, **changes)) is expected


def test_the_first_step_has_no_parent() -> None:
    assert parent_of_next([], "b") is None
    assert parent_of_next([make_step(1, active=False)], "b") is None


def test_the_parent_is_the_newest_active_step_of_the_branch() -> None:
    steps = [make_step(2, branch="b"), make_step(1, branch="b"), make_step(3, branch="c")]
    assert parent_of_next(steps, "b") == "step-2"


def test_a_rolled_back_step_is_no_parent() -> None:
    steps = [make_step(1, branch="b"), make_step(2, branch="b", active=False)]
    assert parent_of_next(steps, "b") == "step-1"


def test_a_new_branch_hangs_on_the_newest_active_step_of_the_project() -> None:
    steps = [make_step(1, branch="b"), make_step(2, branch="c"), make_step(3, branch="b", active=False)]
    assert parent_of_next(steps, "new") == "step-2"
