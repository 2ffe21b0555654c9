from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain import transitions as t
from holdfast.domain.drawing import states_page
from holdfast.errors import IllegalTransition

TABLES: dict[type[StrEnum], Mapping[Any, tuple[Any, ...]]] = {
    t.PlanStatus: t.PLAN_STATUS,
    t.PlanStage: t.PLAN_STAGE,
    t.PhaseStatus: t.PHASE,
    t.TaskStatus: t.TASK,
    t.ApprovalStatus: t.APPROVAL,
}
each_table = pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)


@each_table
def test_every_state_has_a_row(kind: type[StrEnum]) -> None:
    assert list(TABLES[kind]) == list(kind)


@each_table
def test_every_target_is_a_state_and_named_once(kind: type[StrEnum]) -> None:
    for targets in TABLES[kind].values():
        assert set(targets) <= set(kind)
        assert len(targets) == len(set(targets))


@each_table
def test_every_state_can_be_reached_from_the_first(kind: type[StrEnum]) -> None:
    table = TABLES[kind]
    reached = {next(iter(kind))}
    while more := {target for source in reached for target in table[source]} - reached:
        reached |= more
    assert reached == set(kind)


@each_table
def test_check_lets_through_exactly_what_the_table_has(kind: type[StrEnum]) -> None:
    table = TABLES[kind]
    for source in kind:
        for target in kind:
            if target in table[source]:
                assert t.check(table, "thing", source, target) is target
                continue
            with pytest.raises(IllegalTransition) as caught:
                t.check(table, "thing", source, target)
            assert caught.value.allowed == tuple(str(state) for state in table[source])
            assert caught.value.exit_code == 3


def test_a_cancelled_thing_stays_cancelled() -> None:
    for table, cancelled in (
        (t.PLAN_STATUS, t.PlanStatus.CANCELLED),
        (t.PHASE, t.PhaseStatus.CANCELLED),
        (t.TASK, t.TaskStatus.CANCELLED),
        (t.APPROVAL, t.ApprovalStatus.CANCELLED),
    ):
        assert table[cancelled] == ()  # type: ignore[index]


def test_only_a_running_task_can_complete_by_itself() -> None:
    sources = {source for source, targets in t.TASK.items() if t.TaskStatus.COMPLETED in targets}
    assert sources == {t.TaskStatus.RUNNING, t.TaskStatus.FAILED}


def test_done_is_ended_and_nothing_ended_is_active() -> None:
    assert t.TASK_DONE < t.TASK_ENDED
    assert not t.TASK_ENDED & t.TASK_ACTIVE


def test_the_drawing_in_the_docs_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "states.md"
    assert page.read_text(encoding="utf-8") == states_page(), "run the command in domain/drawing.py"
