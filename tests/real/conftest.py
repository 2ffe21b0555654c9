"""A worktree, a scripted model, and a real agent to talk to; where the agent is not installed, a visible skip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import make_repository
from tests.harness.model_server import ModelServer, model_server
from tests.real.real_agents import AGENTS, RealAgent, Talk

from holdfast.agents import kill_strays

StartTalk = Callable[..., Talk]


@pytest.fixture(params=list(AGENTS))
def agent(request: pytest.FixtureRequest) -> RealAgent:
    found = AGENTS[request.param]
    if found.program is None:
        pytest.skip(f"{found.words[0]} is not installed (PATH, HOLDFAST_TEST_{found.name.upper()})")
    return found


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with model_server() as serving:
        yield serving


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "worktree")


@pytest.fixture
def talk(agent: RealAgent, model: ModelServer, tmp_path: Path, worktree: Path) -> Iterator[StartTalk]:
    """Makes a talk with the agent: its prompts, and how its session begins (`how`, `session_id`)."""
    talks: list[Talk] = []
    (tmp_path / "home").mkdir()
    assert agent.program is not None

    def make(*prompts: str, **session: str) -> Talk:
        argv = [agent.program, *agent.words[1:]]
        talks.append(Talk(tmp_path, worktree, argv, agent.variables(model), list(prompts), session))
        return talks[-1]

    yield make
    model.release()
    for each in talks:
        if each.worker is not None and each.worker.poll() is None:
            each.kill_worker()
        kill_strays(each.token)
