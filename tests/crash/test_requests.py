"""What a person asked for before the kill is carried out after it, by the next worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.crash.conftest import MakeScene
from tests.harness import crash, observe
from tests.harness.crash import Mode, Story
from tests.harness.observe import Evidence, opened
from tests.harness.processes import kill_run
from tests.harness.sample import GATED, HELD, Scene

from holdfast.app import approvals, execution, plans, tasks
from holdfast.app.wire import House
from holdfast.domain.plan import ApprovalKind, PauseMode
from holdfast.domain.transitions import PauseReason, PlanStatus, TaskStatus

# Both die in the crash stories; here one shows it, and `just test-all` the other.
MODES = (pytest.param("worker", marks=pytest.mark.campaign), "all")


def killed_after_request(scene: Scene, mode: Mode, request: Callable[[House, str], object]) -> None:
    """Starts a worker, asks for something while its first command runs, and kills at once."""
    process = crash.start(scene, Story(mode), None, 0)
    deadline = time.monotonic() + 240
    while not scene.outside.exists():
        assert process.poll() is None, (scene.root / "life-0.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with opened(scene) as house:
        request(house, plans.find(house, ""))
    process.kill()
    if mode == "all":
        kill_run(scene.root, scene.token)
    process.wait()


def next_worker(scene: Scene, number: int, code: int, *options: str, once: bool = False) -> Evidence:
    """Lets another worker work until the plan stops, and gives what it left, in which nothing is wrong."""
    life = crash.live(scene, Story("worker"), None, number, *options)
    assert life.code == code, life.output
    evidence = observe.gather(scene)
    assert observe.violations(scene, evidence, once=once) == []
    return evidence


def statuses(evidence: Evidence) -> dict[str, TaskStatus]:
    return {task.key: task.status for task in evidence.view.tasks}


def resume(scene: Scene) -> None:
    with opened(scene) as house:
        plans.resume(house, plans.find(house, ""))


@pytest.mark.parametrize("mode", MODES)
def test_a_drain_that_was_asked_for_before_the_kill_lets_the_running_task_finish_and_starts_no_more(
    make: MakeScene, mode: Mode
) -> None:
    scene = make(HELD)
    killed_after_request(scene, mode, lambda house, plan: plans.pause(house, plan, PauseMode.DRAIN))
    scene.let_go()
    paused = next_worker(scene, 1, execution.EXIT_INTERRUPTED, once=mode == "worker")
    assert paused.view.plan.pause_reason is PauseReason.USER
    assert statuses(paused) == {"build": TaskStatus.COMPLETED, "last": TaskStatus.PENDING}
    resume(scene)
    done = next_worker(scene, 2, 0, once=mode == "worker")
    assert [step.attempt for step in done.view.steps] == [1, 1]


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupt_that_was_asked_for_before_the_kill_stops_the_command_and_keeps_the_attempt(
    make: MakeScene, mode: Mode
) -> None:
    scene = make(HELD)
    killed_after_request(scene, mode, lambda house, plan: plans.pause(house, plan, PauseMode.INTERRUPT))
    paused = next_worker(scene, 1, execution.EXIT_INTERRUPTED)
    assert statuses(paused) == {"build": TaskStatus.PAUSED, "last": TaskStatus.PENDING}
    assert [step.interrupted for step in paused.view.steps] == [True]
    scene.let_go()
    resume(scene)
    done = next_worker(scene, 2, 0)
    assert [(step.attempt, step.interrupted) for step in done.view.steps] == [(1, True), (1, False), (1, False)]


@pytest.mark.parametrize("mode", MODES)
def test_a_cancel_that_was_asked_for_before_the_kill_ends_the_plan(make: MakeScene, mode: Mode) -> None:
    scene = make(HELD)
    killed_after_request(scene, mode, plans.cancel)
    cancelled = next_worker(scene, 1, execution.EXIT_PLAN_FAILED)
    assert cancelled.view.plan.status is PlanStatus.CANCELLED
    assert set(statuses(cancelled).values()) == {TaskStatus.CANCELLED}


def test_a_gate_stays_open_over_a_kill_and_may_be_decided_while_no_worker_lives(make: MakeScene) -> None:
    scene = make(GATED)
    for number, kind in enumerate((ApprovalKind.PLAN, ApprovalKind.RESULT)):
        process = crash.start(scene, Story("all"), None, number)
        gate = await_gate(scene, kind)
        kill_run(scene.root, scene.token)
        process.wait()
        with opened(scene) as house:
            approvals.decide(house, gate, approve=True)
    done = next_worker(scene, 2, 0, once=True)
    assert statuses(done) == {"build": TaskStatus.COMPLETED}
    assert [step.attempt for step in done.view.steps] == [1]


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_that_was_asked_of_a_worker_killed_over_it_is_made_once_by_the_next(
    make: MakeScene, mode: Mode
) -> None:
    scene = make(HELD)
    story = Story(mode)
    process = crash.start(scene, story, crash.parse_kill("engine.request.made:1"), 0)
    deadline = time.monotonic() + 240
    while not scene.outside.exists():
        assert process.poll() is None, (scene.root / "life-0.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with opened(scene) as house, ThreadPoolExecutor(1) as pool:
        house.settings.answer_seconds = 240.0
        build = tasks.find(house, "build", plan_id=plans.find(house, ""))
        asked = pool.submit(tasks.checkpoint, house, build, "by hand")
        assert process.wait(timeout=240) == -9
        if mode == "all":
            kill_run(scene.root, scene.token)
        following = crash.start(scene, story, None, 1)
        made = asked.result(timeout=240)
        scene.let_go()
        assert following.wait(timeout=240) == 0
        kept = tasks.show(house, build).checkpoints
    assert [each.id for each in kept if each.kind == "manual"] == [made.id]
    assert (made.name, made.step_id is not None) == ("by hand", True)
    assert observe.violations(scene, observe.gather(scene), once=mode == "worker") == []


def await_gate(scene: Scene, kind: ApprovalKind) -> str:
    """Gives the id of the plan's gate of that kind once it is open."""
    deadline = time.monotonic() + 240
    while not (scene.data / "holdfast.db").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with opened(scene) as house:
        while True:
            assert time.monotonic() < deadline
            for gate in approvals.list_(house):
                if gate.kind is kind:
                    return gate.id
            time.sleep(0.05)
