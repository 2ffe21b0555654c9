"""Agents of tasks use the tools that they are given: the whole way, with a scripted agent, in and out of a sandbox."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine.conftest import Bench, opened, repository, settings, statuses

from holdfast.agents import relay
from holdfast.app import approvals, history, tasks, tokens
from holdfast.app.plans import PlanView
from holdfast.domain.conversation import Conversation
from holdfast.errors import Unavailable
from holdfast.sandbox import choose
from holdfast.store import messages

__all__ = ["repository"]

PLAN = """
title: Agents
phases:
  - title: Work
    tasks: [{key: write, title: Write, instructions: Write it., agent: robot}]
"""
ASK = {"question": "Which colour?", "key": "colour", "wait_seconds": 1}
SCRIPT = {
    "turns": [
        [
            {"mcp": {"tool": "report_progress", "arguments": {"message": "begun", "percent": 10}}},
            {"mcp": {"tool": "ask_person", "arguments": ASK, "again": "waiting"}},
            {"write": {"path": "answer.txt", "text": "{output}"}},
            {"mcp": {"tool": "checkpoint", "arguments": {"message": "answered"}}},
            {"mcp": {"tool": "history", "arguments": {"task": "T99"}}},
            {"say": "done: {output}"},
        ]
    ]
}


def sandboxed() -> list[str]:
    try:
        choose("bubblewrap")
    except Unavailable:
        return ["none", pytest.param("bubblewrap", marks=pytest.mark.skip("bubblewrap does not work here"))]  # pyright: ignore
    return ["none", "bubblewrap"]


@pytest.fixture(params=sandboxed())
def robots(request: pytest.FixtureRequest, tmp_path: Path, repository: Path):
    """A house with a scripted agent that asks a person, in each sandbox that works here."""
    # Where a sandbox shows it: beside the code that it runs.
    package = Path(relay.__file__).parents[2]
    (tmp_path / "script.json").write_text(json.dumps(SCRIPT))
    command = [os.path.realpath(sys.executable), "-m", "holdfast.agents.scripted", str(tmp_path / "script.json")]
    found = os.pathsep.join([str(package), *(each for each in sys.path if each.endswith("site-packages"))])
    robot = f"[robot]\ncommand = {json.dumps(command)}\nenvironment = {{ PYTHONPATH = {json.dumps(found)} }}\n"
    (tmp_path / "agents.toml").write_text(robot)
    chosen = settings(tmp_path)
    chosen.sandbox = request.param
    chosen.agents = tmp_path / "agents.toml"
    chosen.sandbox_readable = os.pathsep.join([str(package), *found.split(os.pathsep), str(tmp_path / "script.json")])
    yield from opened(chosen, repository)


def test_an_agent_asks_a_person_and_goes_on_with_the_answer_after_its_worker_was_replaced(robots: Bench) -> None:
    house = robots.house
    plan = robots.start(PLAN)

    def asked(view: PlanView) -> bool:
        return view.plan.status == "waiting"

    with robots.working() as worker:
        view = robots.until(worker, plan.id, asked)
        assert [gate.title for gate in view.gates] == ["T1 asks: Which colour?"]
    approvals.decide(house, approvals.find(house, "T1"), approve=True, comment="green")
    with robots.working() as worker:
        view = robots.until(worker, plan.id)
    assert statuses(view) == {"write": "completed"}
    assert '"answer": "green"' in robots.files(plan.branch)["answer.txt"]
    task = tasks.show(house, view.tasks[0].id)
    assert "answered" in [checkpoint.name for checkpoint in task.checkpoints]
    told = history.timeline(house, task_id=task.task.id, subtype="progress").items
    assert [event.data for event in told] == [{"message": "begun", "percent": 10}]
    with house.database.read() as connection:
        said = messages.list_(connection, Conversation(plan.id, task.task.id)).items
    assert any("this token reaches no task 'T99'" in message.content for message in said)
    made = tokens.list_(house, revoked=True).items
    assert made
    assert all(token.revoked_at and token.task_id == task.task.id for token in made)
    journals = [path.read_bytes() for path in house.settings.data.rglob("*.jsonl")]
    assert not any(b"hft_" in each for each in journals)
    assert any(b'"limit_suspended"' in each for each in journals), "waiting for a person is not the agent's time"


def test_a_lost_connection_is_made_anew_and_what_had_no_answer_is_asked_again(tmp_path: Path) -> None:
    place = tmp_path / "socket"
    script = str(Path(relay.__file__))
    pipe = subprocess.PIPE
    words = [sys.executable, "-I", "-S", script, str(place)]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, bufsize=1) as client:
        assert client.stdin is not None
        assert client.stdout is not None

        def say(**message: object) -> None:
            client.stdin.write(json.dumps(message) + "\n")  # pyright: ignore

        def hear() -> object:
            return json.loads(client.stdout.readline())  # pyright: ignore

        say(id=1, method="initialize")
        with listening(place) as first, first.makefile() as lines:
            assert json.loads(lines.readline())["method"] == "initialize"
            first.sendall(b'{"id": 1, "result": "first"}\n')
            assert hear() == {"id": 1, "result": "first"}
            say(method="notifications/initialized")
            say(id=2, method="tools/call")
            assert json.loads(lines.readline())["method"] == "notifications/initialized"
            assert json.loads(lines.readline())["id"] == 2
        with listening(place) as second, second.makefile() as lines:
            repeated = [json.loads(lines.readline()) for _ in range(3)]
            assert [each.get("id") for each in repeated] == [1, None, 2]
            second.sendall(b'{"id": 1, "result": "second"}\n{"id": 2, "result": "done"}\n')
            assert hear() == {"id": 2, "result": "done"}
        client.stdin.close()
        assert client.wait(timeout=240) == 0


def listening(place: Path) -> socket.socket:
    """Gives the connection that the relay makes to a socket at `place`."""
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.settimeout(240)
        listener.bind(str(place))
        listener.listen(1)
        connection, _ = listener.accept()
        connection.settimeout(240)
        return connection
