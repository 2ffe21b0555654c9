from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import make_phase, make_task

from holdfast.domain.dependencies import critical_path, cycles, levels, parallel_groups, run_order, speedup
from holdfast.domain.plan import PhaseMode

DIAMOND = [make_task("a", 0), make_task("b", 1, "a"), make_task("c", 2, "a"), make_task("d", 3, "b", "c")]
SECONDS = {"a": 1.0, "b": 10.0, "c": 2.0, "d": 1.0}
GRAPHS = st.dictionaries(
    st.sampled_from("abcdefg"), st.lists(st.sampled_from("abcdefgx"), max_size=3).map(tuple), max_size=7
)


def test_the_level_is_the_longest_chain_below() -> None:
    assert levels({"a": (), "b": ("a",), "c": ("a", "b"), "d": ("outside",)}) == {"a": 0, "d": 0, "b": 1, "c": 2}


def test_a_cycle_has_no_level_and_neither_has_what_depends_on_it() -> None:
    assert levels({"a": ("b",), "b": ("a",), "c": ("b",), "d": ()}) == {"d": 0}


def test_each_knot_shows_one_shortest_cycle() -> None:
    assert cycles({"a": ("b",), "b": ("a", "c"), "c": ("a",), "d": ("d",), "e": ("a",)}) == (("a", "b"), ("d",))
    assert cycles({"a": ("b",), "b": ()}) == ()


@given(GRAPHS)
def test_a_cycle_is_found_exactly_where_levels_are_missing(graph: dict[str, tuple[str, ...]]) -> None:
    found = cycles(graph)
    assert bool(found) == (len(levels(graph)) < len(graph))
    for cycle in found:
        for name, follows in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            assert follows in graph[name]


@given(GRAPHS)
def test_run_order_keeps_everything_and_puts_dependencies_first(graph: dict[str, tuple[str, ...]]) -> None:
    tasks = [make_task(key, place, *graph[key]) for place, key in enumerate(graph)]
    ordered = [task.id for task in run_order(tasks)]
    assert sorted(ordered) == sorted(graph)
    level = levels(graph)
    for key in level:
        assert all(ordered.index(each) < ordered.index(key) for each in graph[key] if each in graph)


def test_position_breaks_ties() -> None:
    tasks = [make_task("late", 2), make_task("first", 0, "middle"), make_task("middle", 1)]
    assert [task.id for task in run_order(tasks)] == ["middle", "first", "late"]


def test_the_critical_path_is_the_chain_that_takes_longest() -> None:
    phases = [make_phase(mode=PhaseMode.PARALLEL)]
    assert critical_path(phases, DIAMOND, SECONDS) == ("a", "b", "d")
    assert critical_path(phases, DIAMOND, {**SECONDS, "c": 20.0}) == ("a", "c", "d")
    assert critical_path(phases, [], {}) == ()
    assert critical_path(phases, [make_task("a", 0, "a")], {}) == ()
    assert critical_path([make_phase()], DIAMOND, SECONDS) == ("a", "b", "c", "d")


def test_groups_are_levels_of_a_parallel_phase_and_single_tasks_of_others() -> None:
    phases = [make_phase(1, PhaseMode.SEQUENTIAL), make_phase(0, PhaseMode.PARALLEL)]
    tasks = [*DIAMOND, make_task("f", 1, phase=1), make_task("e", 0, phase=1)]
    assert parallel_groups(phases, tasks) == ((("a",), ("b", "c"), ("d",)), (("e",), ("f",)))


@pytest.mark.parametrize(("places", "expected"), [(1, 1.0), (2, 14 / 12), (9, 14 / 12)])
def test_the_speed_up_is_that_of_the_schedule(places: int, expected: float) -> None:
    assert speedup([make_phase(mode=PhaseMode.PARALLEL)], DIAMOND, SECONDS, places) == pytest.approx(expected)


def test_a_sequential_plan_and_an_unknown_one_gain_nothing() -> None:
    assert speedup([make_phase()], DIAMOND, SECONDS, 4) == 1.0
    assert speedup([make_phase(mode=PhaseMode.PARALLEL)], DIAMOND, {}, 4) == 1.0


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=8), st.integers(1, 4))
def test_no_schedule_is_faster_than_its_places_and_its_longest_task(seconds: list[float], places: int) -> None:
    tasks = [make_task(f"t{place}", place) for place in range(len(seconds))]
    spent = {task.id: each for task, each in zip(tasks, seconds, strict=True)}
    gain = speedup([make_phase(mode=PhaseMode.PARALLEL)], tasks, spent, places)
    assert 1.0 - 1e-9 <= gain <= min(places, sum(seconds) / max(seconds)) + 1e-9
