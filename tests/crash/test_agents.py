"""Agents at work when something is killed: worker, agent, shim, or everything; also while a question is open."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.crash.conftest import MakeScene
from tests.harness import crash, observe
from tests.harness.crash import Kill, Mode, Story, parse_kill
from tests.harness.observe import Evidence, opened
from tests.harness.postgres import PostgresServer
from tests.harness.processes import kill_run, of_run
from tests.harness.sample import Scene

from holdfast.app import approvals, plans
from holdfast.domain.conversation import MessageRole
from holdfast.domain.transitions import ApprovalStatus

ONE = """\
title: crash sample
variables:
  OUTSIDE: "{outside}"
phases:
  - title: only
    tasks:
      - {{key: talker, title: An agent, agent: NAME, instructions: Do it, verify: ["sh check.sh talker"]}}
"""
LOADS, FORGETS = ONE.replace("NAME", "talker"), ONE.replace("NAME", "teller").replace("talker", "teller")
ASK = {"HOLDFAST_PERMISSIONS": "ask"}


def prompts(evidence: Evidence, key: str) -> list[str]:
    return [each.content for each in evidence.talks[key] if each.role is MessageRole.USER]


# More of the same kind: `just test-all` and the campaign run them.
CAMPAIGN = pytest.mark.campaign


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param("@begin:talker", marks=CAMPAIGN),
        "session.sending:4 session.told:3",
        pytest.param("engine.agent.prompt_made:1 session.sent:5 engine.agent.recorded:2", marks=CAMPAIGN),
        pytest.param("session.answer_ready:2 session.terminal_started:1 session.file_written:1", marks=CAMPAIGN),
        pytest.param("store.messages.blobs_kept:1 session.turn_ended:1 engine.seal.snapshot:1", marks=CAMPAIGN),
    ],
)
def test_an_agent_whose_worker_is_killed_notices_nothing(make: MakeScene, kills: str) -> None:
    story = Story("worker", tuple(map(parse_kill, kills.split())))
    scene = make(LOADS)
    report = crash.play(scene, story, None)
    assert report.problems == (), str(story)
    assert report.kills, str(report.lives)
    evidence = observe.gather(scene)
    (step,) = evidence.view.steps
    assert step.restarts == 0
    assert len(prompts(evidence, "talker")) == 1


@pytest.mark.parametrize("plan", [pytest.param(LOADS, id="loads"), pytest.param(FORGETS, id="forgets", marks=CAMPAIGN)])
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param("@begin:NAME", marks=CAMPAIGN),
        "engine.agent.prompt_made:1 engine.agent.recorded:3",
        pytest.param(
            "@begin:NAME engine.agent.strays_killed:1 engine.agent.started_again:1 engine.agent.prompt_made:1",
            marks=CAMPAIGN,
        ),
        pytest.param("session.terminal_started:1", marks=CAMPAIGN),
        pytest.param("shim.spawned:1 session.turn_ended:1", marks=CAMPAIGN),
        pytest.param("launch.started:1 launch.recorded:1 engine.agent.recorded:1", marks=CAMPAIGN),
    ],
)
def test_an_agent_that_dies_with_all_the_rest_goes_on_in_its_step(make: MakeScene, plan: str, kills: str) -> None:
    name = "talker" if plan is LOADS else "teller"
    story = Story("all", tuple(map(parse_kill, kills.replace("NAME", name).split())))
    scene = make(plan)
    report = crash.play(scene, story, None)
    assert report.problems == (), str(story)
    assert report.kills, str(report.lives)
    evidence = observe.gather(scene)
    assert len(evidence.view.steps) == 1
    first, *later = prompts(evidence, name)
    assert "Do it" in first
    for prompt in later:
        assert prompt.startswith("You were interrupted") if plan is LOADS else "the session was lost" in prompt


def test_an_agent_on_postgresql_goes_on_after_kills(make: MakeScene, postgres: PostgresServer) -> None:
    with postgres.database() as url:
        story = Story("all", tuple(map(parse_kill, ("engine.agent.recorded:2", "engine.agent.strays_killed:1"))))
        report = crash.play(make(LOADS, database_url=url), story, None)
    assert report.problems == (), str(story)
    assert report.kills == 2, str(report.lives)


# -- only one process is killed --------------------------------------------------------------------------------------


def found(scene: Scene, what: str) -> list[int]:
    """Gives the processes of the run whose command line says `what`."""
    pids: list[int] = []
    for pid in of_run(scene.root, scene.token):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if what.encode() in line:
            pids.append(pid)
    return pids


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("of_shim", [False, True], ids=["agent", "shim"])
def test_an_agent_or_its_shim_that_is_killed_alone_is_started_again_by_the_same_worker(
    make: MakeScene, of_shim: bool
) -> None:
    scene = make(LOADS)
    process = crash.start(scene, Story("worker", settings=ASK), None, 0)
    # While its question is open it is in mid-turn, however slow the machine is.
    until(lambda: list(open_gates(scene)))
    (agent,) = found(scene, "holdfast.agents.scripted")
    stat = Path(f"/proc/{agent}/stat").read_text()
    shim = int(stat.rpartition(")")[2].split()[1])
    asked = list(open_gates(scene))
    os.kill(shim if of_shim else agent, signal.SIGKILL)
    while process.poll() is None:
        allow(scene, but=asked[0])
        time.sleep(0.1)
    assert process.returncode == 0, (scene.root / "life-0.log").read_text()
    evidence = observe.gather(scene)
    assert observe.violations(scene, evidence, once=False) == []
    (step,) = evidence.view.steps
    assert step.restarts >= 1


# -- a question is open ----------------------------------------------------------------------------------------------


def open_gates(scene: Scene) -> Iterator[str]:
    with opened(scene) as house:
        yield from (gate.id for gate in approvals.list_(house))


def allow(scene: Scene, but: str = "") -> None:
    """Allows what is asked now, `but` that one question."""
    with opened(scene) as house:
        for gate in approvals.list_(house):
            if gate.id != but:
                approvals.decide(house, gate.id, approve=True)


@pytest.mark.parametrize("mode", ["worker", "all"])
def test_a_question_that_is_open_when_all_is_killed_is_answered_afterwards(make: MakeScene, mode: Mode) -> None:
    scene = make(LOADS)
    story = Story(mode, (Kill("engine.permission.asked:1"),), settings=ASK)
    life = crash.live(scene, story, story.kills[0], 0)
    assert life.killed, life.output
    if mode == "all":
        kill_run(scene.root, scene.token)
    asked = list(open_gates(scene))
    assert len(asked) == 1
    process = crash.start(scene, Story(mode, settings=ASK), None, 1)
    while process.poll() is None:
        # Nobody is left who would hear an answer to the first question, so it must not need one.
        allow(scene, but=asked[0] if mode == "all" else "")
        time.sleep(0.1)
    assert process.returncode == 0, (scene.root / "life-1.log").read_text()
    evidence = observe.gather(scene)
    assert observe.violations(scene, evidence, once=mode == "worker") == []
    with opened(scene) as house:
        gates = approvals.list_(house, open_only=False)
        plan = plans.show(house, plans.find(house, ""))
    first = next(gate for gate in gates if gate.id == asked[0])
    expected = ApprovalStatus.APPROVED if mode == "worker" else ApprovalStatus.CANCELLED
    assert first.status is expected, "an agent that is gone needs no answer"
    assert plan.steps[0].exit_code == 0
