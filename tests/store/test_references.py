"""A checkpoint is found by every name that people have for it, and by none that fits two."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.store.world import World, new_checkpoint

from holdfast import clock
from holdfast.app.targets import find_checkpoint
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind, StageName
from holdfast.domain.task import Task
from holdfast.errors import NotFound, UsageError
from holdfast.store import checkpoints

COMMITS = {1: "1234567" + "a" * 33, 2: "bbbb" * 10, 3: "cc" * 20, 4: "bbbb" * 10}


def filled(world: World) -> dict[str, Checkpoint]:
    """Four checkpoints of the first task, one of the second, two stages of the plan; by their labels."""
    first, second = world.tasks[:2]
    made = {f"T{first.number}@{number}": new_checkpoint(first, number, commit) for number, commit in COMMITS.items()}
    made["T1@2"] = replace(made["T1@2"], name="")
    made["T1@3"] = replace(made["T1@3"], name="before the risky part")
    made["T1@4"] = replace(made["T1@4"], kind=CheckpointKind.PRE_REWIND, name="")
    made["T1@1"] = replace(made["T1@1"], name=StageName.AFTER_REVIEW)
    made["T2@1"] = replace(new_checkpoint(second, 1, "d" * 40), name="only here")
    for number, stage in ((1, StageName.WORKFLOW_START), (2, StageName.AFTER_REVIEW), (3, StageName.WORKFLOW_START)):
        about = {"task_id": None, "kind": CheckpointKind.STAGE, "name": str(stage), "number": number}
        made[f"P1@{number}"] = replace(new_checkpoint(first, number, "e" * 40), id=clock.new_id(), **about)
    with world.database.transaction() as connection:
        for seconds, checkpoint in enumerate(made.values()):
            later = checkpoint.created_at + timedelta(seconds=seconds)
            checkpoints.add(connection, replace(checkpoint, created_at=later), actor="ada")
    return made


def found(world: World, named: str, task: Task | None) -> str:
    with world.database.read() as connection:
        checkpoint = find_checkpoint(connection, named, task=task, plan=world.plan)
    owner = (
        "P1" if checkpoint.task_id is None else next(f"T{t.number}" for t in world.tasks if t.id == checkpoint.task_id)
    )
    return f"{owner}@{checkpoint.number}"


def test_a_checkpoint_of_a_task_has_many_names(world: World) -> None:
    made = filled(world)
    names = {
        "2": "T1@2",
        "@2": "T1@2",
        "t1@2": "T1@2",
        " T1@3 ": "T1@3",
        "before the risky part": "T1@3",
        made["T1@3"].id: "T1@3",
        "1234567": "T1@1",
        "CCCCCCC": "T1@3",
        "latest": "T1@3",
        "after_review": "T1@1",
        "P1@2": "P1@2",
    }
    assert {named: found(world, named, world.task) for named in names} == names


def test_a_checkpoint_of_a_plan_is_its_own_or_a_tasks(world: World) -> None:
    made = filled(world)
    names = {
        "2": "P1@2",
        "P1@1": "P1@1",
        "T2@1": "T2@1",
        "after_review": "P1@2",
        "only here": "T2@1",
        "1234567": "T1@1",
        made["P1@2"].id: "P1@2",
        "latest": "P1@3",
    }
    assert {named: found(world, named, None) for named in names} == names


def test_what_fits_several_names_them(world: World) -> None:
    made = filled(world)
    with pytest.raises(UsageError, match=r"ambiguous: T1@4 \(pre_rewind\), T1@2 \(manual\)$") as error:
        found(world, "bbbbbbb", world.task)
    assert (error.value.code, error.value.exit_code) == ("ambiguous", 2)
    with pytest.raises(UsageError, match=r"P1@3 \(stage 'workflow_start'\), P1@1"):
        found(world, "workflow_start", world.task)
    with pytest.raises(UsageError, match=r"T1@4.*, T1@3.*, T1@2.*, T1@1"):
        found(world, made["T1@1"].id[:4], world.task)


@pytest.mark.parametrize("named", ["9", "T1@9", "T2@1", "P2@1", "bbbbbb", "cc", "nothing of that name", "%"])
def test_what_there_is_not_is_told_with_what_there_is(world: World, named: str) -> None:
    filled(world)
    with pytest.raises(NotFound, match=f"T1 has no checkpoint '{named}'") as error:
        found(world, named, world.task)
    assert error.value.hint == "it has T1@4, T1@3, T1@2, T1@1; look: holdfast task checkpoints T1"


def test_a_task_without_checkpoints_has_no_latest_one(world: World) -> None:
    filled(world)
    with pytest.raises(NotFound, match="T3 has no checkpoint 'latest'") as error:
        found(world, "latest", world.tasks[2])
    assert "none yet" in error.value.hint
    with pytest.raises(UsageError, match="has to be named"):
        found(world, " ", world.task)


def test_latest_leaves_out_what_was_left_behind(world: World) -> None:
    made = filled(world)
    later = replace(new_checkpoint(world.task, 5), superseded=True, id=clock.new_id())
    with world.database.transaction() as connection:
        checkpoints.add(connection, later, actor="ada")
    assert found(world, "latest", world.task) == "T1@3"
    assert found(world, "5", world.task) == "T1@5"
    assert found(world, made["T1@4"].id, world.task) == "T1@4"
