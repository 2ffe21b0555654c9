"""A plan's supervisor when something is killed: it is asked once, its answer kept once, its changes made once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.agents.runs import eventually
from tests.crash.conftest import MakeScene
from tests.harness import crash
from tests.harness.crash import Mode, Story, parse_kill
from tests.harness.observe import opened
from tests.harness.processes import kill_run
from tests.harness.sample import Scene

from holdfast.app import conversations, database, edits, execution, plans, projects, supervisor
from holdfast.app.wire import House
from holdfast.domain.conversation import MessageRole
from holdfast.domain.transitions import PlanStatus
from holdfast.engine import inquiries
from holdfast.engine.inquiries import Inquiry

CAMPAIGN = pytest.mark.campaign
PLAN = """\
title: crash sample
supervisor: {{agent: boss, after_failure: replan}}
variables:
  OUTSIDE: "{outside}"
phases:
  - title: only
    tasks:
      - {{key: build, title: Build it, run: "echo run >> $OUTSIDE; test -e made.txt", max_attempts: 1}}
      - {{key: last, title: The last one, run: "test -e made.txt"}}
"""
SUGGESTIONS = {
    "suggestions": [
        {"kind": "retry_task", "target": "build", "reasoning": "r", "changes": {"run": "echo made > made.txt"}},
        {"kind": "add_task", "target": "only", "reasoning": "r", "task": {"title": "More", "run": "test -e made.txt"}},
    ]
}


def with_boss(scene: Scene) -> Scene:
    """Adds the agent that supervises: it says outside that it was asked, and answers in pieces."""
    turn = [
        {"run": f"echo asked >> {scene.root}/asked.txt"},
        {"mcp": {"tool": "report_progress", "arguments": {"message": "thinking"}}},
        {"say": "So: "},
        {"think": "well"},
        {"say": json.dumps(SUGGESTIONS)},
    ]
    (scene.root / "boss.json").write_text(json.dumps({"turns": [turn]}))
    command = json.dumps([sys.executable, "-m", "holdfast.agents.scripted", str(scene.root / "boss.json")])
    sessions = json.dumps(str(scene.root / "sessions"))
    table = f"\n[boss]\ncommand = {command}\nenvironment = {{HOLDFAST_SCRIPTED_SESSIONS = {sessions}}}\n"
    with (scene.root / "agents.toml").open("a") as file:
        file.write(table)
    return scene


@pytest.mark.parametrize(
    ("mode", "kills"),
    [
        ("worker", "engine.replan.asked:1 engine.supervisor.prompt_made:1 engine.supervisor.recorded:2"),
        pytest.param(
            "worker", "engine.tools.token_made:1 engine.supervisor.closed:1 engine.replan.answered:1", marks=CAMPAIGN
        ),
        pytest.param("worker", "engine.replan.settled:1", marks=CAMPAIGN),
        pytest.param(
            "all",
            "engine.supervisor.prompt_made:1 engine.supervisor.started_again:1 engine.supervisor.recorded:2",
            marks=CAMPAIGN,
        ),
        pytest.param("worker", "session.sending:2 session.told:1 engine.supervisor.recorded:1", marks=CAMPAIGN),
        pytest.param("all", "engine.supervisor.laid_out:1 engine.replan.answered:1", marks=CAMPAIGN),
    ],
)
def test_a_failure_is_asked_about_and_answered_once(make: MakeScene, mode: Mode, kills: str) -> None:
    scene = with_boss(make(PLAN))
    story = Story(mode, tuple(map(parse_kill, kills.split())))
    lives = []
    for number, kill in enumerate(story.kills):
        lives.append(crash.live(scene, story, kill, number))
        if mode == "all":
            kill_run(scene.root, scene.token)
    lives.append(crash.live(scene, story, None, len(story.kills)))
    assert all(life.killed for life in lives[:-1]), lives
    with opened(scene) as house:
        view = plans.show(house, plans.find(house, "P1"))
        talk = conversations.show(house, view.plan.id).items
        kinds = [each.kind for each in edits.history(house, view.plan.id).items]
        assert list(database.examine(house)) == []
    assert view.plan.status is PlanStatus.COMPLETED, lives[-1].output
    assert [task.key for task in view.tasks] == ["build", "last", "more"]
    assert kinds == ["apply", "review"]
    assert [each.role for each in talk].count(MessageRole.USER) == 1
    assert scene.outside.read_text().count("run") == 1
    if mode == "worker":
        assert (scene.root / "asked.txt").read_text() == "asked\n"
        spoken = [each.content for each in talk if each.role is MessageRole.ASSISTANT and each.content]
        assert spoken == ["So: ", "well", json.dumps(SUGGESTIONS)]


@pytest.mark.parametrize(
    ("asks", "works"),
    [
        ("engine.supervisor.recorded:2", "engine.supervisor.closed"),
        pytest.param("app.supervisor.asked", "engine.answering.taken_up", marks=CAMPAIGN),
        pytest.param("engine.supervisor.prompt_made", "engine.supervisor.recorded:1", marks=CAMPAIGN),
    ],
)
def test_a_worker_goes_on_with_a_question_whose_asker_is_dead(make: MakeScene, asks: str, works: str) -> None:
    scene = with_boss(make(PLAN))
    with opened(scene) as house:
        project = projects.init(house, scene.repository).project
        plan = plans.create(house, project, plans.read_file(house, scene.plan_file))
    for words, point in ((["-c", ASKING, "a question"], asks), (["-m", "holdfast", "worker"], works)):
        given = {"HOLDFAST_FAILPOINT": point}
        done = subprocess.run(
            [sys.executable, *words], env=scene.environment() | given, cwd=crash.ROOT, timeout=240, capture_output=True
        )
        assert done.returncode == -9, done.stderr
    with opened(scene) as house:
        with execution.working(house, "worker"):
            eventually(lambda: not open_questions(house, plan.id))
        talk = conversations.show(house, plan.id).items
        assert list(database.examine(house)) == []
    assert [each.content for each in talk if each.role is MessageRole.USER] == ["a question"]
    spoken = [each.content for each in talk if each.role is MessageRole.ASSISTANT and each.content]
    assert spoken == ["So: ", "well", json.dumps(SUGGESTIONS)]
    assert (scene.root / "asked.txt").read_text() == "asked\n"


def open_questions(house: House, plan_id: str) -> list[Inquiry]:
    with house.database.read() as connection:
        return [each for each in inquiries.of_plan(connection, plan_id) if each.open]


ASKING = """
import sys
from pathlib import Path
from holdfast.app import plans, projects, supervisor
from holdfast.app.wire import open_house
with open_house(actor="crash-test") as house:
    supervisor.ask(house, plans.find(house, "P1"), sys.argv[1], agent="boss")
"""


@pytest.mark.parametrize(
    "points",
    [
        "app.supervisor.asked engine.supervisor.prompt_made engine.supervisor.closed",
        pytest.param("engine.supervisor.laid_out engine.supervisor.recorded:2 session.told:3", marks=CAMPAIGN),
    ],
)
def test_a_question_is_answered_once_however_often_who_asks_is_killed(make: MakeScene, points: str) -> None:
    scene = with_boss(make(PLAN))
    with opened(scene) as house:
        project = projects.init(house, scene.repository).project
        plan = plans.create(house, project, plans.read_file(house, scene.plan_file))

    def asking(question: str, point: str) -> int:
        words = [sys.executable, "-c", ASKING, question]
        given = {"HOLDFAST_FAILPOINT": point} if point else {}
        return subprocess.run(words, env=scene.environment() | given, cwd=crash.ROOT, timeout=240).returncode

    for number, point in enumerate(points.split()):
        assert asking(f"question {number}", point) == -9
    assert asking("the last", "") == 0
    with opened(scene) as house:
        talk = conversations.show(house, plan.id, limit=200).items
        assert supervisor.resume(house, plan.id) == ()
        assert list(database.examine(house)) == []
    asked = [each.content for each in talk if each.role is MessageRole.USER]
    assert asked[-1] == "the last"
    assert len(asked) == len(set(asked))
    answers = [each for each in talk if each.content == json.dumps(SUGGESTIONS)]
    assert len(answers) == len(asked) == len((scene.root / "asked.txt").read_text().split())
