"""Suggestions and the way back: applied to what they were made for, refused for anything else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.planner.drafts import plan

from holdfast.domain.planfile import PhaseSpec, PlanFile, TaskSpec
from holdfast.domain.revisions import take_back
from holdfast.domain.suggestions import (
    Part,
    Stale,
    Suggestion,
    SuggestionKind,
    apply,
    find_task,
    fragment,
    from_plain,
    to_plain,
)

K = SuggestionKind
NEW = TaskSpec("new", "New", run="true")


def keys(file: PlanFile) -> list[list[str]]:
    return [[task.key for task in phase.tasks] for phase in file.phases]


def task(key: str) -> TaskSpec:
    found = find_task(plan(), key)
    assert found is not None
    return found


ADD = Suggestion(K.ADD_TASK, "Build", "r", Part(), Part(tasks=(NEW,)), place="model")
MODIFY = Suggestion(
    K.MODIFY_TASK, "pack", "r", Part(tasks=(task("pack"),)), Part(tasks=(replace(task("pack"), verify=("ls",)),))
)
REORDER = Suggestion(K.REORDER, "Build", "r", Part(order=("model", "view")), Part(order=("view", "model")))
PHASE = Suggestion(K.ADD_PHASE, "Build", "r", Part(), Part(phase=PhaseSpec("Test", (replace(NEW, key="t"),))))
PARTS = (replace(NEW, key="a"), replace(NEW, key="b", depends_on=("a",)), replace(NEW, key="c"))
BREAK = Suggestion(K.BREAK_DOWN_TASK, "model", "r", Part(tasks=(task("model"),)), Part(tasks=PARTS))
ALL = [ADD, MODIFY, REORDER, PHASE, BREAK]


def test_each_kind_does_what_it_says() -> None:
    assert keys(apply(plan(), ADD)) == [["model", "new", "view"], ["pack"]]
    assert keys(apply(plan(), replace(ADD, place=""))) == [["model", "view", "new"], ["pack"]]
    assert find_task(apply(plan(), MODIFY), "pack") == MODIFY.after.tasks[0]
    assert keys(apply(plan(), REORDER)) == [["view", "model"], ["pack"]]
    assert [phase.title for phase in apply(plan(), PHASE).phases] == ["Build", "Test", "Ship"]
    assert [phase.title for phase in apply(plan(), replace(PHASE, target="")).phases] == ["Test", "Build", "Ship"]


def test_what_depended_on_a_broken_down_task_waits_for_its_last_parts() -> None:
    broken = apply(plan(), BREAK)
    assert keys(broken) == [["a", "b", "c", "view"], ["pack"]]
    assert [find_task(broken, key).depends_on for key in ("view", "pack")] == [("b", "c"), ("b", "c")]  # type: ignore[union-attr]


@pytest.mark.parametrize("suggestion", ALL, ids=lambda each: each.kind)
def test_a_suggestion_is_applied_once(suggestion: Suggestion) -> None:
    with pytest.raises(Stale):
        apply(apply(plan(), suggestion), suggestion)


@pytest.mark.parametrize("suggestion", ALL, ids=lambda each: each.kind)
def test_a_suggestion_survives_being_stored(suggestion: Suggestion) -> None:
    assert from_plain(json.loads(json.dumps(to_plain(suggestion)))) == suggestion


@pytest.mark.parametrize("suggestion", ALL, ids=lambda each: each.kind)
def test_the_parts_of_a_suggestion_can_be_read(suggestion: Suggestion) -> None:
    assert fragment(suggestion.after).startswith("- ")


def test_a_target_that_is_gone_is_stale() -> None:
    empty = PlanFile("Empty", (PhaseSpec("Other", (NEW,)),))
    for suggestion in ALL:
        with pytest.raises(Stale):
            apply(empty, suggestion)
    with pytest.raises(Stale, match="'gone'"):
        apply(plan(), replace(ADD, place="gone"))


@given(st.lists(st.sampled_from(ALL), unique_by=lambda each: each.kind))
def test_what_was_applied_last_can_be_taken_back(suggestions: list[Suggestion]) -> None:
    now = plan()
    for each in suggestions:
        try:
            after = apply(now, each)
        except Stale:
            continue
        assert take_back(after, now, after) == replace(now, text="")
        now = after


@pytest.mark.parametrize(
    ("first", "later"),
    [(ADD, MODIFY), (MODIFY, ADD), (MODIFY, PHASE), (PHASE, ADD), (ADD, PHASE), (PHASE, BREAK), (REORDER, MODIFY)],
    ids=lambda each: each.kind,
)
def test_a_change_is_taken_back_from_under_a_later_one(first: Suggestion, later: Suggestion) -> None:
    after = apply(plan(), first)
    assert take_back(apply(after, later), plan(), after) == apply(plan(), later)


def test_an_added_task_goes_from_an_order_that_was_changed_since() -> None:
    after = apply(plan(), ADD)
    phase = after.phases[0]
    now = replace(after, phases=(replace(phase, tasks=phase.tasks[::-1]), after.phases[1]))
    assert keys(take_back(now, plan(), after)) == [["view", "model"], ["pack"]]


def test_a_new_order_is_not_taken_back_from_under_a_later_one() -> None:
    after = apply(plan(), REORDER)
    with pytest.raises(Stale, match="the tasks of the phase 'Build'"):
        take_back(apply(after, ADD), plan(), after)


def test_a_removed_task_comes_back_to_its_place() -> None:
    before = plan()
    less = replace(before, phases=(replace(before.phases[0], tasks=before.phases[0].tasks[1:]), before.phases[1]))
    now = apply(less, replace(ADD, place="view"))
    assert keys(take_back(now, before, less)) == [["model", "view", "new"], ["pack"]]


def test_a_thing_that_was_changed_again_is_named() -> None:
    after = apply(plan(), MODIFY)
    again = replace(MODIFY, before=MODIFY.after, after=Part(tasks=(replace(task("pack"), run="other"),)))
    with pytest.raises(Stale, match="the task 'pack'"):
        take_back(apply(after, again), plan(), after)
    titled = replace(plan(), title="Other")
    with pytest.raises(Stale, match="the plan's title"):
        take_back(replace(plan(), title="Third"), plan(), titled)
    assert take_back(apply(titled, ADD), plan(), titled).title == "Shop"
