"""Projects, plans and phases on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update
from tests.store.world import World, build, new_phase, new_plan, new_project, new_task

from holdfast import clock
from holdfast.domain.history import EventType
from holdfast.domain.plan import PauseMode
from holdfast.domain.transitions import PauseReason, PhaseStatus, PlanStage, PlanStatus
from holdfast.errors import IllegalState, IllegalTransition, NotFound, UsageError
from holdfast.store import events, plans, projects
from holdfast.store.faults import ConstraintViolated
from holdfast.store.tables import plans as plan_table


def test_a_project_comes_back_as_it_was_stored(world: World) -> None:
    with world.database.read() as connection:
        assert projects.get(connection, world.project.id) == world.project
        assert projects.by_path(connection, "/repos/shop", home="home-1") == world.project
        assert projects.by_slug(connection, "shop") == world.project
        assert projects.list_(connection).items == (world.project,)


def test_an_unknown_project_is_not_found_with_what_to_do(world: World) -> None:
    with world.database.read() as connection:
        with pytest.raises(NotFound) as caught:
            projects.by_path(connection, "/elsewhere", home="home-1")
        assert caught.value.hint == "holdfast init"
        with pytest.raises(NotFound):
            projects.by_path(connection, "/repos/shop", home="home-2")
        with pytest.raises(NotFound):
            projects.by_slug(connection, "elsewhere")
        assert projects.list_(connection, owner_id="other").items == ()


@pytest.mark.parametrize("change", [{"path": "/other"}, {"slug": "other"}])
def test_a_path_and_a_slug_belong_to_one_project(world: World, change: dict[str, str]) -> None:
    twin = replace(new_project(), **change)
    with pytest.raises(IllegalState, match="already the project 'shop'"), world.database.transaction() as connection:
        projects.add(connection, twin, actor="ada")


def test_settings_are_replaced_and_told(world: World) -> None:
    with world.database.transaction() as connection:
        changed = projects.set_settings(connection, world.project.id, {"agent": "codex"}, actor="ada")
        assert changed.settings == {"agent": "codex"}
        told = events.list_(connection, type=EventType.SYSTEM, subtype="project_settings").items
    assert [event.data for event in told] == [{"agent": "codex"}]


def test_a_plan_comes_back_as_it_was_stored(world: World) -> None:
    with world.database.read() as connection:
        assert plans.get(connection, world.plan.id) == world.plan
        assert plans.phases_of(connection, world.plan.id) == world.phases
        assert plans.tasks_of(connection, world.plan.id) == world.tasks
    assert world.plan.number == 1
    assert [task.number for task in world.tasks] == [1, 2, 3]
    assert world.tasks[2].depends_on == (world.tasks[1].id, world.tasks[0].id)


def test_the_same_plan_run_twice_gets_a_slug_and_a_branch_of_its_own(world: World) -> None:
    with world.database.transaction() as connection:
        again, _, _ = plans.add(connection, new_plan(world.project), (), ())
    assert (again.number, again.slug, again.branch) == (2, "add-login-2", "holdfast/add-login-2")


def test_a_plan_is_stored_whole_or_not_at_all(world: World) -> None:
    plan = new_plan(world.project)
    phase = new_phase(plan, 0)
    with pytest.raises(ConstraintViolated), world.database.transaction() as connection:
        plans.add(connection, plan, (phase,), (new_task(phase, "same"), new_task(phase, "same")))
    with world.database.read() as connection:
        assert [found.id for found in plans.list_(connection).items] == [world.plan.id]
    with world.database.transaction() as connection:
        assert plans.add(connection, plan, (), ())[0].number == 2


@pytest.mark.parametrize("reference", ["P1", "p1", "1", "add-login"])
def test_a_plan_is_found_by_what_people_type(world: World, reference: str) -> None:
    with world.database.read() as connection:
        assert plans.find(connection, reference) == world.plan.id


def test_a_plan_is_found_by_its_id_and_a_beginning_of_it(world: World) -> None:
    with world.database.read() as connection:
        assert plans.find(connection, world.plan.id) == world.plan.id
        assert plans.find(connection, world.plan.id.upper()) == world.plan.id
        assert plans.find(connection, world.plan.id[:14]) == world.plan.id
        for unknown in ("P9", "99", "nothing", world.plan.id[:3], "ffff", "%", "_" * 8):
            with pytest.raises(NotFound):
                plans.find(connection, unknown)
        with pytest.raises(NotFound):
            plans.find(connection, "P1", owner_id="other")


def test_an_ambiguous_reference_lists_the_candidates(world: World) -> None:
    other = build(world.database, "till")
    with world.database.read() as connection:
        with pytest.raises(UsageError, match=r"ambiguous: P1 \(.*\), P2 \("):
            plans.find(connection, "add-login")
        with pytest.raises(UsageError, match="ambiguous"):
            plans.find(connection, world.plan.id[:4])
        assert plans.find(connection, other.plan.id) == other.plan.id


def test_a_status_moves_with_its_event_and_its_times(world: World) -> None:
    with world.database.transaction() as connection:
        running = plans.set_status(connection, world.plan, PlanStatus.RUNNING, actor="ada", run=1)
    assert (running.status, running.run, running.ended_at) == (PlanStatus.RUNNING, 1, None)
    assert running.started_at is not None
    with world.database.transaction() as connection:
        paused = plans.set_status(
            connection, running, PlanStatus.PAUSED, reason=PauseReason.BUDGET, actor="worker:1", data={"why": "spent"}
        )
        assert paused.pause_reason is PauseReason.BUDGET
        again = plans.set_status(connection, paused, PlanStatus.RUNNING, actor="ada")
        ended = plans.set_status(connection, again, PlanStatus.FAILED, actor="worker:1")
    assert (again.pause_reason, again.started_at) == (None, running.started_at)
    assert ended.ended_at is not None
    with world.database.read() as connection:
        assert plans.get(connection, ended.id) == ended
        told = events.list_(connection, plan_id=world.plan.id, type=EventType.PLAN, after=0).items
    assert [(event.subtype, event.actor) for event in told] == [
        ("created", "ada"),
        ("running", "ada"),
        ("paused", "worker:1"),
        ("running", "ada"),
        ("failed", "worker:1"),
    ]
    assert told[2].data == {"from": "running", "to": "paused", "reason": "budget", "why": "spent"}


def test_a_transition_that_the_tables_lack_changes_nothing(world: World) -> None:
    with pytest.raises(IllegalTransition), world.database.transaction() as connection:
        plans.set_status(connection, world.plan, PlanStatus.COMPLETED, actor="ada")
    with world.database.read() as connection:
        assert plans.get(connection, world.plan.id) == world.plan


def test_a_decision_from_an_old_state_is_refused_and_leaves_no_event(world: World) -> None:
    with world.database.transaction() as connection:
        plans.set_status(connection, world.plan, PlanStatus.CANCELLED, actor="ada")
    with pytest.raises(IllegalState, match="is cancelled"), world.database.transaction() as connection:
        plans.set_status(connection, world.plan, PlanStatus.RUNNING, actor="bob")
    with world.database.read() as connection:
        assert events.list_(connection, actor="bob").items == ()


def test_a_stage_moves_with_its_event(world: World) -> None:
    with world.database.transaction() as connection:
        planning = plans.set_stage(connection, world.plan, PlanStage.PLANNING, actor="ada")
        assert planning.stage is PlanStage.PLANNING
        with pytest.raises(IllegalState, match="by now"):
            plans.set_stage(connection, world.plan, PlanStage.PLANNING, actor="ada")
        assert [event.data["to"] for event in events.list_(connection, subtype="stage").items] == ["planning"]


def test_fields_without_rules_are_written_and_others_refused(world: World) -> None:
    with world.database.transaction() as connection:
        changed = plans.set_fields(
            connection, world.plan.id, stop=PauseMode.DRAIN, cancel_requested=True, base_commit="f" * 40
        )
        assert (changed.stop, changed.cancel_requested, changed.base_commit) == (PauseMode.DRAIN, True, "f" * 40)
        with pytest.raises(TypeError, match="status"):
            plans.set_fields(connection, world.plan.id, status=PlanStatus.COMPLETED)
        with pytest.raises(TypeError, match="nonsense"):
            plans.set_fields(connection, world.plan.id, nonsense=1)
        with pytest.raises(NotFound):
            plans.set_fields(connection, clock.new_id(), run=2)


def test_plans_are_listed_newest_first_in_pages_that_stay_put(world: World) -> None:
    with world.database.transaction() as connection:
        for number in range(2, 8):
            plans.add(connection, new_plan(world.project, f"plan-{number}"), (), ())
        first = plans.list_(connection, limit=3)
        plans.add(connection, new_plan(world.project, "latecomer"), (), ())
        second = plans.list_(connection, limit=3, cursor=first.next_cursor)
        third = plans.list_(connection, limit=3, cursor=second.next_cursor)
    pages = [[plan.number for plan in page.items] for page in (first, second, third)]
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    assert third.next_cursor is None


def test_plans_are_filtered_by_status_and_project(world: World) -> None:
    other = build(world.database, "till")
    with world.database.transaction() as connection:
        running = plans.set_status(connection, world.plan, PlanStatus.RUNNING, actor="ada")
        assert plans.list_(connection, status=PlanStatus.RUNNING).items == (running,)
        assert plans.list_(connection, project_id=other.project.id).items == (other.plan,)
        assert plans.count_by_status(connection) == {PlanStatus.RUNNING: 1, PlanStatus.DRAFT: 1}


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30, "٣"])
def test_a_cursor_that_is_none_is_a_usage_error(world: World, cursor: str) -> None:
    with world.database.read() as connection, pytest.raises(UsageError):
        plans.list_(connection, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_a_bounded_size(world: World, limit: int) -> None:
    with world.database.read() as connection, pytest.raises(UsageError):
        plans.list_(connection, limit=limit)


def test_a_phase_moves_with_its_event(world: World) -> None:
    first = world.phases[0]
    with world.database.transaction() as connection:
        running = plans.set_phase_status(connection, first, PhaseStatus.RUNNING, actor="worker:1")
        done = plans.set_phase_status(connection, running, PhaseStatus.COMPLETED, actor="worker:1")
        back = plans.set_phase_status(connection, done, PhaseStatus.PENDING, actor="ada")
        with pytest.raises(IllegalState, match="is pending by now"):
            plans.set_phase_status(connection, running, PhaseStatus.FAILED, actor="worker:1")
        told = events.list_(connection, phase_id=first.id).items
    assert running.started_at is not None
    assert done.ended_at is not None
    assert back == first
    assert [event.subtype for event in told] == ["pending", "completed", "running"]


def test_a_locked_plan_is_the_plan(world: World) -> None:
    with world.database.transaction() as connection:
        assert plans.lock(connection, world.plan.id) == world.plan
        with pytest.raises(NotFound):
            plans.lock(connection, clock.new_id())


def test_the_schema_refuses_a_state_outside_the_enums(world: World) -> None:
    wrong = update(plan_table).values(status="sleeping")
    with pytest.raises(ConstraintViolated), world.database.transaction() as connection:
        connection.execute(wrong)


def test_text_that_no_database_keeps_is_stored_readably(world: World) -> None:
    with world.database.transaction() as connection:
        changed = plans.set_fields(connection, world.plan.id, error="a\x00b\ud800c✓", variables={"K": "v\x00"})
    assert changed.error == "a\ufffdb?c✓"
    assert changed.variables == {"K": "v\ufffd"}
