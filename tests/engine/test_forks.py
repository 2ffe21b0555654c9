"""Forks, and tasks that go on from somewhere else: real sessions with the scripted agent, through the whole engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.engine.conftest import settings, statuses
from tests.engine.test_agents import ONE, Action, Agents, agents, plan_of

from holdfast.app import (
    continuations,
    conversation_rewinds,
    database,
    edits,
    forks,
    plans,
    races,
    rewinds,
    tasks,
    undo,
)
from holdfast.app.continuations import Mode
from holdfast.app.forks import Wanted
from holdfast.app.plans import PlanView
from holdfast.domain.checkpoint import CheckpointKind
from holdfast.domain.conversation import Conversation, MessageRole
from holdfast.domain.task import Task
from holdfast.domain.transitions import PauseReason, PlanStatus, TaskStatus
from holdfast.errors import HoldfastError, IllegalState, NotFound, UsageError
from holdfast.store import operations

FIRST: list[Action] = [
    {"say": "I begin."},
    {"write": {"path": "first", "text": "one\n"}},
    {"say": "The key is 42."},
]
HISTORY: list[Action] = [{"write": {"path": "history", "text": "{history}"}}, {"say": "Again."}]


EITHER = ["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)]


@pytest.fixture
def house(tmp_path: Path, repository: Path) -> Iterator[Agents]:
    yield from agents(settings(tmp_path), repository, tmp_path / "agents")


@pytest.fixture(params=["sqlite", "postgres"])
def either_house(request: pytest.FixtureRequest, tmp_path: Path, repository: Path) -> Iterator[Agents]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    yield from agents(settings(tmp_path, url), repository, tmp_path / "agents")


def ran(house: Agents, *, fork: bool = True) -> PlanView:
    """Runs a plan of one task to its end; the agent's next process plays another script."""
    house.agent(FIRST)
    view = house.run(ONE)
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    house.agent(HISTORY, fork=fork, load=fork)
    return view


def execute(house: Agents, task: Task) -> PlanView:
    plans.execute(house.house, task.plan_id)
    with house.working() as worker:
        view = house.until(worker, task.plan_id)
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    return view


def prompts(house: Agents, task_id: str) -> list[str]:
    return house.said(task_id, MessageRole.USER)


def of(task: Task) -> Conversation:
    return Conversation(task.plan_id, task.id)


# -- forks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "either_house", ["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)], indirect=True
)
def test_a_fork_has_files_branch_and_conversation_and_the_original_notices_nothing(either_house: Agents) -> None:
    house = either_house
    view = ran(house)
    original, head = view.tasks[0], house.vault().head(view.plan.branch)
    point = forks.point_at(house.house, original.id, "latest")
    made = forks.fork(house.house, original.id, point, Wanted("Other way", "Do it in another way"))
    assert (made.fork_point, made.status, made.contestant_of) == ("T1@2", TaskStatus.PENDING, original.id)
    first = tasks.show(house.house, made.id).checkpoints[0]
    assert (first.kind, first.tree) == (CheckpointKind.INITIAL, point.checkpoint.tree)
    trunk = [each.id for each in house.talk(original.id)]
    assert [each.id for each in house.talk(made.id)] == trunk, "the trunk is shared"
    forked = execute(house, made)
    files = house.files(forked.tasks[0].branch)
    assert (files["first"], "user: " in files["history"], "The key is 42." in files["history"]) == ("one\n", True, True)
    told = prompts(house, made.id)[-1]
    assert told.startswith("This is a fork")
    assert "Do it in another way" in told
    assert "The key is 42." not in told, "its session knows"
    assert [each.id for each in house.talk(original.id)] == trunk
    assert house.vault().head(view.plan.branch) == head, "a fork is not merged"
    assert list(database.examine(house.house)) == []


def test_an_agent_that_cannot_fork_is_told_the_trunk(house: Agents) -> None:
    view = ran(house, fork=False)
    made = forks.fork(house.house, view.tasks[0].id, forks.point_at(house.house, view.tasks[0].id, "2"))
    forked = execute(house, made)
    told = prompts(house, made.id)[-1]
    assert told.startswith("# one (fork)")
    assert "You said:\n> The key is 42." in told
    assert "The key" not in house.files(forked.tasks[0].branch)["history"].replace(told, "")


def test_a_fork_without_the_conversation_begins_one(house: Agents) -> None:
    view = ran(house)
    point = forks.point_at(house.house, view.tasks[0].id, "latest")
    made = forks.fork(house.house, view.tasks[0].id, point, Wanted(conversation=False))
    assert house.talk(made.id) == []
    execute(house, made)
    (told,) = prompts(house, made.id)
    assert "The key is 42." not in told
    assert "earlier conversation" not in told


def test_a_running_task_is_forked_with_what_it_has_not_committed(house: Agents) -> None:
    go = house.folder / "go"
    wait = {"run": f"touch begun; while ! test -e {go}; do sleep 0.05; done"}
    house.agent([{"say": "Before."}, {"write": {"path": "draft", "text": "half\n"}}, wait, {"say": "After."}])
    plan = house.start(ONE)
    begun = house.worktree(plan.id) / "begun"
    with house.working() as worker:
        view = house.until(worker, plan.id, lambda _: begun.exists())
        original = view.tasks[0]
        tasks.checkpoint(house.house, original.id, "half way")
        house.agent(HISTORY)
        point = forks.point_at(house.house, original.id, "half way")
        made = forks.fork(house.house, original.id, point)
        plans.execute(house.house, made.plan_id)
        forked = house.until(worker, made.plan_id)
        assert statuses(plans.show(house.house, plan.id)) == {"one": "running"}
        go.touch()
        ended = house.until(worker, plan.id)
    assert (forked.plan.status, ended.plan.status) == (PlanStatus.COMPLETED, PlanStatus.COMPLETED)
    assert house.files(forked.tasks[0].branch)["draft"] == "half\n"
    told = prompts(house, made.id)[-1]
    assert "> Before." in told, "its session goes on: a fork is told the trunk"
    assert "After." in house.said(original.id)
    assert "After." not in " ".join(house.said(made.id))


def test_a_fork_at_a_message_or_a_time_has_the_files_of_then(house: Agents) -> None:
    view = ran(house)
    task = view.tasks[0]
    talk = house.talk(task.id)
    call = next(each for each in talk if each.tool_calls)
    point = forks.point_at_message(house.house, task.id, call.id)
    assert (point.label, point.message_id) == ("T1@1", talk[call.position - 1].id)
    assert forks.point_at_time(house.house, task.id, view.steps[0].started_at).label == "T1@1"
    with pytest.raises(NotFound, match="had no checkpoint at"):
        forks.point_at_time(house.house, task.id, view.plan.created_at.replace(year=2000))
    with pytest.raises(NotFound, match="no message ffff"):
        forks.point_at_message(house.house, task.id, "ffff")


def test_what_cannot_be_forked_is_refused_and_leaves_nothing(house: Agents) -> None:
    command = house.run("title: C\nphases: [{title: P, tasks: [{title: Run, key: run, run: echo x > x}]}]\n").tasks[0]
    point = forks.point_at(house.house, command.id, "latest")
    branch = plans.show(house.house, command.plan_id).plan.branch
    refs = house.vault().refs("refs/")
    refused: list[tuple[Wanted, type[HoldfastError], str]] = [
        (Wanted(instructions="x"), UsageError, "runs a command"),
        (Wanted(branch="a..b"), UsageError, "not a name"),
        (Wanted(branch=branch), IllegalState, "there is a branch"),
    ]
    for wanted, error, told in refused:
        with pytest.raises(error, match=told):
            forks.fork(house.house, command.id, point, wanted)
    assert house.vault().refs("refs/") == refs
    assert len(plans.list_(house.house).items) == 1
    made = forks.fork(house.house, command.id, point, Wanted("By hand", branch="mine/fork"))
    assert execute(house, made).tasks[0].branch == "mine/fork"
    assert house.files("mine/fork")["x"] == "x\n"


FORK = """
import sys
from holdfast.app import forks, wire
with wire.open_house() as house:
    forks.fork(house, sys.argv[1], forks.point_at(house, sys.argv[1], "latest"))
"""


@pytest.mark.parametrize(
    "failpoint",
    [
        "app.fork.kept",
        pytest.param("vcs.checkpoint.ref_written", marks=pytest.mark.campaign),
        pytest.param("app.fork.before_commit", marks=pytest.mark.campaign),
    ],
)
def test_a_fork_that_was_killed_is_not_there_and_can_be_made(house: Agents, failpoint: str) -> None:
    view = ran(house)
    variables = {"HOLDFAST_DATA": str(house.house.places.data), "HOLDFAST_FAILPOINT": failpoint}
    variables |= {"HOLDFAST_AGENTS": str(house.house.settings.agents), "HOLDFAST_AGENT": "worker"}
    script = [sys.executable, "-c", FORK, view.tasks[0].id]
    killed = subprocess.run(script, env={**os.environ, **variables}, timeout=240)
    assert killed.returncode == -9
    assert len(plans.list_(house.house).items) == 1
    with house.house.database.read() as connection:
        assert operations.list_(connection).items == ()
    task_id = view.tasks[0].id
    made = forks.fork(house.house, task_id, forks.point_at(house.house, task_id, "latest"))
    execute(house, made)
    assert list(database.examine(house.house)) == []


def test_a_fork_goes_back_and_is_run_again_like_any_task(house: Agents) -> None:
    view = ran(house)
    made = forks.fork(house.house, view.tasks[0].id, forks.point_at(house.house, view.tasks[0].id, "latest"))
    execute(house, made)
    first = tasks.show(house.house, made.id).checkpoints[-1]
    rewinds.rewind_task(house.house, made.id, first)
    assert len(house.talk(made.id)) == len(house.talk(view.tasks[0].id)), "its conversation is the trunk again"
    forked = house.again(made.plan_id)
    assert forked.plan.status is PlanStatus.COMPLETED, forked.tasks[0].error
    assert [step.active for step in forked.steps] == [False, True]


def test_a_fork_is_picked_as_the_result_once_the_original_has_gone_back(house: Agents) -> None:
    view = ran(house)
    task = view.tasks[0]
    made = forks.fork(house.house, task.id, forks.point_at(house.house, task.id, "1"))
    execute(house, made)
    with pytest.raises(IllegalState, match="takes no other result") as refused:
        races.pick(house.house, task.id, 1)
    assert "task rewind T1" in refused.value.hint
    rewinds.rewind_task(house.house, task.id, tasks.show(house.house, task.id).checkpoints[-1])
    races.pick(house.house, task.id, 1)
    ended = house.again(view.plan.id)
    assert ended.plan.status is PlanStatus.COMPLETED, ended.plan.error
    assert set(house.files(view.plan.branch)) == {".gitignore", "README", "history"}


# -- going on --------------------------------------------------------------------------------------------------------


def test_a_task_goes_on_in_its_own_session_with_what_a_person_adds(either_house: Agents) -> None:
    house = either_house
    view = ran(house)
    task = continuations.continue_task(house.house, view.tasks[0].id, Mode.WITH_CONTEXT, context="Add the history.")
    assert task.status is TaskStatus.PENDING
    ended = house.again(view.plan.id)
    assert ended.plan.status is PlanStatus.COMPLETED, ended.tasks[0].error
    told = prompts(house, task.id)[-1]
    assert told.startswith("The work on this task goes on")
    assert told.endswith("## What a person adds\nAdd the history.\n")
    files = house.files(view.plan.branch)
    assert (files["first"], "The key is 42." in files["history"]) == ("one\n", True)
    assert list(database.examine(house.house)) == []


def test_a_clean_restart_forgets_files_and_conversation(house: Agents) -> None:
    view = ran(house)
    task = continuations.continue_task(house.house, view.tasks[0].id, Mode.CLEAN_RESTART, context="Mind the gap.")
    assert house.talk(task.id) == []
    assert not (house.worktree(view.plan.id) / "first").exists()
    ended = house.again(view.plan.id)
    assert ended.plan.status is PlanStatus.COMPLETED, ended.tasks[0].error
    (told,) = prompts(house, task.id)
    assert (told.startswith("# one"), "42" in told, told.endswith("Mind the gap.\n")) == (True, False, True)
    assert "first" not in house.files(view.plan.branch)


def test_a_task_goes_on_from_a_checkpoint_with_its_files_and_conversation(house: Agents) -> None:
    view = ran(house)
    task = continuations.continue_task(house.house, view.tasks[0].id, Mode.WITH_CONTEXT)
    house.again(view.plan.id)
    assert "Again." in house.said(task.id)
    house.agent(HISTORY)
    continuations.continue_task(house.house, task.id, Mode.FROM_CHECKPOINT, at="2", context="Otherwise.")
    assert house.said(task.id)[-1] == "The key is 42."
    ended = house.again(view.plan.id)
    assert ended.plan.status is PlanStatus.COMPLETED, ended.tasks[0].error
    told = prompts(house, task.id)[-1]
    assert "You said:\n> The key is 42." in told, "its session has gone on since: a new one is told the trunk"
    assert "Again." not in told
    assert told.endswith("Otherwise.\n")


def test_what_cannot_go_on_is_refused(house: Agents) -> None:
    view = ran(house)
    task_id = view.tasks[0].id
    wrong: list[tuple[Mode, str, type[HoldfastError], str]] = [
        (Mode.FROM_CHECKPOINT, "", UsageError, "is missing"),
        (Mode.WITH_CONTEXT, "2", UsageError, "has no checkpoint to go on from"),
        (Mode.FROM_CHECKPOINT, "9", NotFound, "no checkpoint '9'"),
        (Mode.FROM_CHECKPOINT, "workflow_start", UsageError, "is a checkpoint of the plan"),
    ]
    for mode, at, error, told in wrong:
        with pytest.raises(error, match=told):
            continuations.continue_task(house.house, task_id, mode, at=at)
    assert statuses(plans.show(house.house, view.plan.id)) == {"one": "completed"}


# -- going back in a conversation --------------------------------------------------------------------------------------


def stopped(house: Agents) -> tuple[PlanView, Callable[[], PlanView]]:
    """Gives a plan whose agent was stopped in the middle, and how to let it go on."""
    go = house.folder / "go"
    wait = {"run": f"touch begun; while ! test -e {go}; do sleep 0.05; done"}
    house.agent([*FIRST, wait, {"say": "Never."}])
    plan = house.start(ONE)
    begun = house.worktree(plan.id) / "begun"
    with house.working() as worker:
        view = house.until(worker, plan.id, lambda _: begun.exists())
        with pytest.raises(IllegalState, match="T1 is running"):
            conversation_rewinds.rewind(house.house, of(view.tasks[0]), conversation_rewinds.by_messages(1))
        plans.pause(house.house, plan.id, plans.PauseMode.INTERRUPT)
        view = house.until(worker, plan.id)
    house.agent(HISTORY)
    return view, lambda: house.again(plan.id)


def test_the_next_session_starts_from_the_cut(house: Agents) -> None:
    view, again = stopped(house)
    task = view.tasks[0]
    talk = house.talk(task.id)
    key = next(each for each in talk if each.content == "The key is 42.")
    begin = next(each for each in talk if each.content == "I begin.")
    decided = conversation_rewinds.decide(house.house, of(task), conversation_rewinds.to_time(key.at))
    assert decided.after.message_id == key.id
    done = conversation_rewinds.rewind(house.house, of(task), conversation_rewinds.to_message(begin.id))
    assert (done.left, done.after.message_count) == (len(talk) - begin.position - 1, begin.position + 1)
    ended = again()
    assert ended.plan.status is PlanStatus.COMPLETED, ended.tasks[0].error
    told = prompts(house, task.id)[-1]
    assert "You said:\n> I begin." in told
    assert "42" not in told
    assert "interrupted" not in told
    assert house.files(view.plan.branch)["first"] == "one\n", "the code stayed"


def test_a_cut_conversation_comes_back_with_undo(either_house: Agents) -> None:
    house = either_house
    view = ran(house)
    task = view.tasks[0]
    talk = [each.id for each in house.talk(task.id)]
    conversation_rewinds.rewind(house.house, of(task), conversation_rewinds.by_messages(len(talk)))
    assert house.talk(task.id) == []
    with pytest.raises(IllegalState, match="nothing has been said"):
        conversation_rewinds.rewind(house.house, of(task), conversation_rewinds.by_messages(1))
    undo.undo(house.house)
    assert [each.id for each in house.talk(task.id)] == talk
    undo.redo(house.house)
    assert house.talk(task.id) == []
    assert list(database.examine(house.house)) == []


def test_the_code_goes_back_with_the_conversation_as_one(house: Agents) -> None:
    view, again = stopped(house)
    task = view.tasks[0]
    call = next(each for each in house.talk(task.id) if each.tool_calls)
    where = conversation_rewinds.to_message(call.id)
    done = conversation_rewinds.rewind(house.house, of(task), where, with_code=True)
    assert done.checkpoint is not None
    assert (done.checkpoint.number, done.moved) == (1, call)
    assert house.said(task.id) == ["I begin."]
    assert not (house.worktree(view.plan.id) / "first").exists()
    assert plans.show(house.house, view.plan.id).plan.pause_reason is PauseReason.ROLLBACK
    ended = again()
    assert ended.plan.status is PlanStatus.COMPLETED, ended.tasks[0].error
    assert "You said:\n> I begin." in prompts(house, task.id)[-1]
    assert "first" not in house.files(view.plan.branch)


def test_a_fork_goes_back_below_its_trunk_and_the_original_keeps_it(house: Agents) -> None:
    view = ran(house)
    task = view.tasks[0]
    made = forks.fork(house.house, task.id, forks.point_at(house.house, task.id, "latest"))
    trunk = [each.id for each in house.talk(task.id)]
    conversation_rewinds.rewind(house.house, of(made), conversation_rewinds.by_messages(1))
    assert [each.id for each in house.talk(made.id)] == trunk[:-1]
    assert [each.id for each in house.talk(task.id)] == trunk
    with pytest.raises(UsageError, match="cannot go back by 99"):
        conversation_rewinds.rewind(house.house, of(made), conversation_rewinds.by_messages(99))


def test_a_task_that_is_there_already_keeps_its_conversation_with_the_checkpoint_of_now(house: Agents) -> None:
    task = ran(house).tasks[0]
    talk = [each.id for each in house.talk(task.id)]
    second, first = tasks.show(house.house, task.id).checkpoints
    for _ in range(2):
        rewinds.rewind_task(house.house, task.id, second)
    kept = tasks.show(house.house, task.id).checkpoints[0]
    rewinds.rewind_task(house.house, task.id, first)
    assert house.talk(task.id) == []
    rewinds.rewind_task(house.house, task.id, kept)
    assert [each.id for each in house.talk(task.id)] == talk


# -- steps -----------------------------------------------------------------------------------------------------------


def test_a_step_that_was_brought_back_ends_and_begins_where_the_first_one_did(house: Agents) -> None:
    view = ran(house)
    task = view.tasks[0]
    talk = [each.id for each in house.talk(task.id)]
    rewinds.rollback_step(house.house, house.project, 1, keep=False)
    undo.undo(house.house)
    rewinds.rollback_step(house.house, house.project, 2, keep=True)
    assert tasks.show(house.house, task.id).task.head_checkpoint == 2
    assert [each.id for each in house.talk(task.id)] == talk
    rewinds.rollback_step(house.house, house.project, 2, keep=False)
    assert tasks.show(house.house, task.id).task.head_checkpoint == 1
    assert house.talk(task.id) == []


def test_a_step_runs_again_from_where_it_began_and_as_it_was_asked(house: Agents) -> None:
    view = ran(house)
    task = view.tasks[0]
    rewinds.rollback_step(house.house, house.project, 1, keep=False)
    edits.edit_task(house.house, task.id, {"title": "Other", "instructions": "Do something else"})
    assert house.again(view.plan.id).plan.status is PlanStatus.COMPLETED
    first, second = (forks.replay(house.house, house.project, number) for number in (1, 2))
    assert [(each.title, each.fork_point) for each in (first, second)] == [("one", "T1@1"), ("Other", "T1@1")]
    done = execute(house, first)
    assert set(house.files(done.tasks[0].branch)) == {*house.files(view.plan.base_commit), "history"}
    assert prompts(house, first.id)[-1].startswith("# one\n\nDo it\n")


def test_an_agent_that_begins_again_finds_its_branch_clean(house: Agents) -> None:
    house.agent([{"run": "git status --porcelain > seen"}])
    view = house.run(plan_of("title: one, run: echo 1 > one", "title: two, instructions: Look"))
    one = view.tasks[0]
    rewinds.rewind_task(house.house, one.id, forks.point_at(house.house, one.id, "1").checkpoint)
    assert house.again(view.plan.id).plan.status is PlanStatus.COMPLETED
    assert house.files(view.plan.branch)["seen"] == "?? seen\n"
    first = continuations.target_of(house.house, view.tasks[1].id, Mode.CLEAN_RESTART)
    assert first is not None
    assert (first.kind, first.number) == (CheckpointKind.INITIAL, 3), "not the one of the work that was left behind"
