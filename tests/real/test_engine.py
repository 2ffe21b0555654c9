"""A plan whose task a real agent does: its work, talk and usage kept, also when it is stopped or its worker killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from tests.agents.runs import eventually
from tests.engine.conftest import Bench, opened, repository, settings
from tests.harness.model_server import ModelServer, Turn, run, write
from tests.real.real_agents import AGENTS, PATIENCE_SECONDS

from holdfast.agents import kill_strays
from holdfast.agents.shim.tree import carries
from holdfast.app import conversations, database, plans
from holdfast.app.plans import PlanView
from holdfast.domain.conversation import Message, MessageRole
from holdfast.domain.plan import PauseMode
from holdfast.domain.transitions import PauseReason, PlanStatus
from holdfast.sandbox import made, named

__all__ = ["repository"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PLAN = "title: Ours\nphases: [{title: a, tasks: [{key: one, title: One, agent: opencode, instructions: Write one.}]}]\n"


@dataclass
class Real:
    """A house whose tasks OpenCode does, against the scripted model."""

    bench: Bench
    model: ModelServer
    environment: dict[str, str]
    command: list[str]
    plan_id: str

    @property
    def worktree(self) -> Path:
        return self.bench.house.places.plan_worktree(self.view.plan)

    @property
    def view(self) -> PlanView:
        return plans.show(self.bench.house, self.plan_id)

    def work(self) -> PlanView:
        with self.bench.working() as worker:
            return self.bench.until(worker, self.plan_id)

    def talk(self) -> list[Message]:
        return list(conversations.show(self.bench.house, self.view.tasks[0].id).items)

    def said(self, role: MessageRole = MessageRole.ASSISTANT) -> list[str]:
        return [each.content for each in self.talk() if each.role is role and each.content and not each.thought]

    def agents(self) -> set[int]:
        """Gives the agent's own processes, without what they run."""
        tokens = [step.id for step in self.view.steps]
        own = [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == self.command]
        return {each.pid for each in own if any(carries(each.pid, token) for token in tokens)}


@pytest.fixture(params=["none"])
def real(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    repository: Path,
    model: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Real]:
    """A plan of one task for OpenCode that is started and that nobody works on yet, in the sandbox that is named."""
    agent = AGENTS["opencode"]
    if agent.program is None:
        pytest.skip("opencode is not installed (PATH, HOLDFAST_TEST_OPENCODE)")
    if why := "" if request.param == "none" else made(named(request.param), "").refusal():
        pytest.skip(why)
    home = tmp_path / "user"
    home.mkdir()
    # It keeps its sessions in the home folder: another one than that of who runs the tests.
    monkeypatch.setenv("HOME", str(home))
    command = [agent.program, "acp"]
    variables = ", ".join(f"{name} = {json.dumps(value)}" for name, value in agent.variables(model).items())
    table = f"[opencode]\ncommand = {json.dumps(command)}\nenvironment = {{{variables}}}\n"
    (tmp_path / "agents.toml").write_text(table)
    chosen = replace(
        settings(tmp_path),
        sandbox=request.param,
        sandbox_network="full",
        agents=tmp_path / "agents.toml",
        permissions="allow-all",
    )
    own = {"HOLDFAST_AGENTS": str(chosen.agents), "HOLDFAST_DATA": str(chosen.data), "HOLDFAST_SANDBOX": "none"}
    for bench in opened(chosen, repository):
        plan = bench.start(PLAN)
        yield Real(bench, model, {**os.environ, **own, "HOLDFAST_PERMISSIONS": "allow-all"}, command, plan.id)
        model.release()
        for step in plans.show(bench.house, plan.id).steps:
            kill_strays(step.id)


@pytest.mark.parametrize("real", ["bubblewrap", pytest.param("none", marks=pytest.mark.campaign)], indirect=True)
def test_its_work_talk_and_usage_are_kept_although_its_model_is_over_its_limit_at_first(
    real: Real, model: ModelServer
) -> None:
    model.add(
        Turn(error=429),
        Turn("I write it.", write(str(real.worktree / "one.txt"), "one\n")),
        Turn("All done."),
    )
    view = real.work()
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert real.bench.files(view.plan.branch)["one.txt"] == "one\n"
    (step,) = view.steps
    assert step.commit_after not in (None, step.commit_before)
    assert real.said() == ["I write it.", "All done."]
    (prompt,) = real.said(MessageRole.USER)
    assert "Write one." in prompt
    assert [call["name"] for each in real.talk() for call in each.tool_calls]
    assert view.spent.input_tokens > 0
    assert view.spent.output_tokens > 0
    assert list(database.examine(real.bench.house)) == []


def test_a_plan_that_is_stopped_in_mid_turn_goes_on_in_its_session(real: Real, model: ModelServer) -> None:
    model.add(Turn("I begin something long.", hang=True))
    with real.bench.working() as worker:
        real.bench.until(worker, real.plan_id, lambda _: any(asked.turn for asked in model.requests))
        plans.pause(real.bench.house, real.plan_id, PauseMode.INTERRUPT)
        view = real.bench.until(worker, real.plan_id)
    assert view.plan.pause_reason is PauseReason.USER
    assert [step.interrupted for step in view.steps] == [True]
    assert real.agents() == set()
    model.release()
    model.add(Turn("I go on.", write(str(real.worktree / "one.txt"), "one\n")), Turn("All done."))
    plans.resume(real.bench.house, real.plan_id)
    view = real.work()
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert real.bench.files(view.plan.branch)["one.txt"] == "one\n"
    assert real.said(MessageRole.USER)[-1].startswith("You were interrupted")
    assert real.said()[-2:] == ["I go on.", "All done."]
    assert "Write one." in model.requests[-1].text, "it remembers"
    assert [step.attempt for step in view.steps] == [1, 1]


def test_a_worker_killed_while_a_tool_runs_is_replaced_and_the_tool_runs_once(
    real: Real, model: ModelServer, tmp_path: Path
) -> None:
    go, begun = tmp_path / "go", tmp_path / "begun"
    slow = f"echo once >> once.txt; touch {begun}; while [ ! -e {go} ]; do sleep 0.05; done"
    model.add(Turn("I run it.", run(slow)), Turn("All done."))
    line = [sys.executable, "-m", "holdfast", "worker"]
    worker = subprocess.Popen(line, env=real.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: begun.exists() or worker.poll() is not None, PATIENCE_SECONDS)
        assert begun.exists()
        before = real.agents()
    finally:
        worker.kill()
        worker.wait()
    assert real.agents() == before != set()
    go.touch()
    view = real.work()
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert real.bench.files(view.plan.branch)["once.txt"] == "once\n"
    (step,) = view.steps
    assert (step.attempt, step.restarts) == (1, 0)
    assert real.said() == ["I run it.", "All done."]
    assert len(real.said(MessageRole.USER)) == 1
    assert max(asked.turn for asked in model.requests) == 2
