"""Tasks that agents do: real sessions over ACP with the scripted agent, through the whole engine."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import Bench, opened, settings, statuses

from holdfast.app import approvals, database, execution, plans, steps, tasks
from holdfast.app.plans import PlanView
from holdfast.domain.conversation import Conversation, Message, MessageRole
from holdfast.domain.plan import PauseMode
from holdfast.domain.step import Step
from holdfast.domain.task import FailureKind
from holdfast.domain.transitions import PauseReason, PlanStatus
from holdfast.settings import Settings
from holdfast.store import messages
from holdfast.store import tasks as task_rows

Action = Mapping[str, Any]


@dataclass
class Agents(Bench):
    """A house whose agents do what a test says."""

    folder: Path = Path()

    def agent(
        self,
        *turns: Sequence[Action],
        name: str = "worker",
        start: Sequence[Action] = (),
        mode: str = "",
        model: str = "",
        **about: Any,
    ) -> None:
        """Makes an agent, or gives one that is there another script, for its next process."""
        script = self.folder / f"{name}.json"
        script.write_text(json.dumps({"agent": about, "start": list(start), "turns": [list(turn) for turn in turns]}))
        command = [sys.executable, "-m", "holdfast.agents.scripted", str(script)]
        self.table(name, command, mode, model)

    def table(self, name: str, command: Sequence[str], mode: str = "", model: str = "") -> None:
        sessions = json.dumps(str(self.folder / "sessions"))
        table = (
            f"[{name}]\nmode = {json.dumps(mode)}\nmodel = {json.dumps(model)}\ncommand = {json.dumps(list(command))}\n"
        )
        table += f"environment = {{HOLDFAST_SCRIPTED_SESSIONS = {sessions}}}\n"
        (self.folder / f"{name}.toml").write_text(table)
        tables = sorted(path.read_text() for path in self.folder.glob("*.toml"))
        self.house.settings.agents.write_text("\n".join(tables))

    def talk(self, task_id: str) -> list[Message]:
        with self.house.database.read() as connection:
            plan_id = task_rows.get(connection, task_id).plan_id
            return list(reversed(messages.list_(connection, Conversation(plan_id, task_id), limit=1000).items))

    def said(self, task_id: str, role: MessageRole = MessageRole.ASSISTANT) -> list[str]:
        return [each.content for each in self.talk(task_id) if each.role is role and each.content and not each.thought]

    def worktree(self, plan_id: str) -> Path:
        return self.house.places.plan_worktree(plans.show(self.house, plan_id).plan)


def agents(chosen: Settings, repository: Path, folder: Path) -> Iterator[Agents]:
    folder.mkdir()
    chosen = replace(chosen, agents=folder / "agents.file", permissions="allow-all", agent="worker")
    for bench in opened(chosen, repository):
        yield Agents(bench.house, bench.project, bench.repository, folder)


@pytest.fixture
def house(tmp_path: Path, repository: Path) -> Iterator[Agents]:
    yield from agents(settings(tmp_path), repository, tmp_path / "agents")


@pytest.fixture(params=["sqlite", "postgres"])
def either_house(request: pytest.FixtureRequest, tmp_path: Path, repository: Path) -> Iterator[Agents]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    yield from agents(settings(tmp_path, url), repository, tmp_path / "agents")


def plan_of(*lines: str, head: str = "") -> str:
    """Gives a plan of one phase with a task per line of its fields."""
    return f"title: T\n{head}phases:\n  - title: a\n    tasks:\n" + "".join(f"      - {{{line}}}\n" for line in lines)


ONE = plan_of("title: one, instructions: Do it")


def calls(talk: Sequence[Message]) -> list[str]:
    return [str(call["name"]) for message in talk for call in message.tool_calls]


# -- what an agent does ----------------------------------------------------------------------------------------------


def test_what_an_agent_did_is_committed_and_what_it_said_and_used_is_kept(either_house: Agents) -> None:
    house = either_house
    house.agent(
        [
            {"think": "how?"},
            {"say": "I begin."},
            {"write": {"path": "made/it", "text": "made\n"}},
            {"run": {"command": "echo from the terminal", "terminal": True}},
            {"usage": {"used": 10, "cost": 0.5, "input": 7, "output": 3}},
            {"say": "All done."},
        ],
        modes=["ask", "code"],
    )
    view = house.run(
        plan_of("title: one, instructions: 'Do the {{ thing }}'", head="variables: {thing: right thing}\n")
    )
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert house.files(view.plan.branch)["made/it"] == "made\n"
    assert house.subjects(view.plan.branch)[0] == "one"
    task, step = view.tasks[0], view.steps[0]
    (prompt,) = house.said(task.id, MessageRole.USER)
    assert "Do the right thing" in prompt
    assert "thing = right thing" in prompt
    assert house.said(task.id) == ["I begin.", "All done."]
    results = [each.tool_result for each in house.talk(task.id) if each.role is MessageRole.TOOL]
    assert results == ["--- /dev/null\n+++ b/made/it\n@@ -0,0 +1,1 @@\n+made", "from the terminal"]
    assert (step.exit_code, step.tokens, step.cost_usd) == (0, 10, 0.5)
    assert sum(each.token_count for each in house.talk(task.id)) == 10
    shown = steps.get(house.house, house.project, step.number)
    assert (shown.step.agent_config["agent"], shown.step.agent_config["mode"]) == ("worker", "")
    assert "holdfast.agents.scripted" in str(shown.step.agent_config["command"])
    assert shown.step.agent_config["environment"] == ["HOLDFAST_SCRIPTED_SESSIONS"]
    assert shown.step.agent_config["version"] == "1"
    newest = tasks.show(house.house, task.id).checkpoints[0]
    assert newest.message_id == house.talk(task.id)[-1].id
    assert list(database.examine(house.house)) == []


def test_an_agent_is_told_what_came_of_the_tasks_that_its_task_depends_on(house: Agents) -> None:
    house.agent([{"write": {"path": "a", "text": "a\n"}}, {"say": "The key is 42."}], name="first")
    house.agent([{"say": "I see."}])
    view = house.run(
        plan_of(
            "key: one, title: The one before, agent: first, instructions: Do it",
            "key: two, title: two, instructions: Go on, depends_on: [one]",
        )
    )
    assert view.plan.status is PlanStatus.COMPLETED
    (prompt,) = house.said(view.tasks[1].id, MessageRole.USER)
    assert "### The one before" in prompt
    assert "> The key is 42." in prompt
    assert str(view.steps[0].commit_after)[:12] in prompt


def test_an_attempt_after_a_failed_check_is_a_new_session_that_is_told_what_failed(house: Agents) -> None:
    house.agent([{"say": "I leave it. {turn}"}, {"append": {"path": "tries", "text": "x"}}, {"say": "Looks good."}])
    check = "test $(wc -c < tries) -eq 2 || { echo only one try; false; }"
    view = house.run(plan_of(f"title: one, instructions: Do it, verify: ['{check}'], max_attempts: 2"))
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert [(step.attempt, step.failure) for step in view.steps] == [(1, FailureKind.VERIFY), (2, None)]
    first, second = house.said(view.tasks[0].id, MessageRole.USER)
    assert "tried before" not in first
    assert "### Attempt 1" in second
    assert "only one try" in second
    assert "> Looks good." in second
    assert house.said(view.tasks[0].id).count("I leave it. 0") == 2, "each attempt has a session of its own"


def test_agents_of_a_parallel_phase_work_beside_each_other_and_are_merged(house: Agents) -> None:
    for name in ("left", "right"):
        other = "right" if name == "left" else "left"
        meet = f"touch {house.folder}/{name}; while ! test -e {house.folder}/{other}; do sleep 0.05; done"
        house.agent([{"run": meet}, {"run": "ls"}, {"write": {"path": name, "text": name}}], name=name)
    view = house.run(
        "title: T\nphases:\n  - title: a\n    mode: parallel\n    tasks:\n"
        "      - {title: left, agent: left, instructions: Do it}\n"
        "      - {title: right, agent: right, instructions: Do it}\n"
    )
    assert view.plan.status is PlanStatus.COMPLETED, [task.error for task in view.tasks]
    assert {"left", "right"} <= set(house.files(view.plan.branch))
    for task in view.tasks:
        assert any(each.tool_result == "README" for each in house.talk(task.id)), "nothing of the other's is seen"


# -- questions -------------------------------------------------------------------------------------------------------


def test_a_question_waits_for_a_person_and_what_was_only_asked_is_shown_as_that(house: Agents) -> None:
    house.house.settings.permissions = "ask"
    house.agent([{"ask": {"title": "Make it", "input": {"command": "make"}, "reject": [{"say": "Then not."}]}}])
    plan = house.start(ONE)
    with house.working() as worker:
        view = house.until(worker, plan.id, lambda view: bool(view.gates))
        approvals.decide(house.house, view.gates[0].id, approve=False)
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert house.said(view.tasks[0].id) == ["Then not."]
    talk = house.talk(view.tasks[0].id)
    assert calls(talk) == ["Make it"]
    (asked,) = [each for each in talk if each.role is MessageRole.TOOL]
    assert (asked.tool_input, asked.is_error) == ({"command": "make"}, False)
    assert "asked for" in str(asked.tool_result)


# -- people and budgets ----------------------------------------------------------------------------------------------


def waits(marker: Path) -> Action:
    return {"run": f"touch begun; while ! test -e {marker}; do sleep 0.05; done"}


def begun(house: Agents, plan_id: str) -> Callable[[PlanView], bool]:
    place = house.worktree(plan_id) / "begun"
    return lambda _: place.exists()


def test_an_interrupted_agent_goes_on_in_its_own_session(house: Agents) -> None:
    go = house.folder / "go"
    house.agent([{"say": "Before."}, waits(go), {"write": {"path": "done", "text": "{history}"}}])
    plan = house.start(ONE)
    with house.working() as worker:
        house.until(worker, plan.id, begun(house, plan.id))
        plans.pause(house.house, plan.id, PauseMode.INTERRUPT)
        view = house.until(worker, plan.id)
    assert view.plan.pause_reason is PauseReason.USER
    assert view.steps[0].interrupted
    assert statuses(view) == {"one": "paused"}
    go.touch()
    view = house.again(plan.id)
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert [step.attempt for step in view.steps] == [1, 1]
    second = house.said(view.tasks[0].id, MessageRole.USER)[1]
    assert second.startswith("You were interrupted")
    remembered = house.files(plan.branch)["done"]
    assert "agent: Before." in remembered, "the session knows what was said"
    assert list(database.examine(house.house)) == []


def test_a_session_that_was_opened_but_never_told_the_task_is_not_gone_on_with(house: Agents) -> None:
    house.agent([{"say": "Never."}], mute=["session/set_mode"], modes=["code"], mode="code")
    plan = house.start(ONE)
    with house.working() as worker:
        house.until(worker, plan.id, lambda _: len(list((house.folder / "sessions").glob("*.json"))) == 1)
        plans.pause(house.house, plan.id, PauseMode.INTERRUPT)
        house.until(worker, plan.id)
    house.agent([{"say": "Done."}])
    view = house.again(plan.id)
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    (prompt,) = house.said(view.tasks[0].id, MessageRole.USER)
    assert "Do it" in prompt
    assert "interrupted" not in prompt


def test_a_drained_plan_lets_the_agent_finish(house: Agents) -> None:
    go = house.folder / "go"
    house.agent([waits(go), {"say": "Done."}])
    plan = house.start(plan_of("title: one, instructions: Do it", "title: two, instructions: Do it"))
    with house.working() as worker:
        house.until(worker, plan.id, begun(house, plan.id))
        plans.pause(house.house, plan.id, PauseMode.DRAIN)
        go.touch()
        view = house.until(worker, plan.id)
    assert statuses(view) == {"one": "completed", "two": "pending"}
    assert house.said(view.tasks[0].id) == ["Done."]


def test_a_cancelled_plan_ends_its_agent(house: Agents) -> None:
    house.agent([waits(house.folder / "never")])
    plan = house.start(ONE)
    with house.working() as worker:
        house.until(worker, plan.id, begun(house, plan.id))
        plans.cancel(house.house, plan.id)
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.CANCELLED
    assert processes(house) == []


@pytest.mark.parametrize(
    ("budget", "used"),
    [("max_tokens: 50", {"spend": {"input": 60}}), ("max_cost_usd: 0.2", {"usage": {"used": 1, "cost": 0.3}})],
    ids=["tokens", "cost"],
)
def test_a_budget_that_is_reached_in_the_middle_of_a_turn_pauses_the_plan(
    house: Agents, budget: str, used: Action
) -> None:
    house.agent([{"say": "It costs."}, used, {"hang": True}])
    view = house.run(plan_of("title: one, instructions: Do it", head=f"budget: {{{budget}}}\n"))
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.BUDGET)
    assert view.steps[0].interrupted
    assert execution.exit_code(view.plan) == 9


# -- deaths ----------------------------------------------------------------------------------------------------------


def processes(house: Agents) -> list[int]:
    """Gives the processes of the scripted agents of this house."""
    mark = os.fsencode(str(house.folder))
    found: list[int] = []
    for name in os.listdir("/proc"):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes() if name.isdigit() else b""
        except OSError:
            continue
        if mark in line and b"holdfast.agents.scripted" in line and b"shim" not in line:
            found.append(int(name))
    return found


@pytest.mark.parametrize("loads", [True, False])
def test_an_agent_that_is_killed_in_the_middle_of_its_turn_goes_on_in_the_same_step(house: Agents, loads: bool) -> None:
    go = house.folder / "go"
    house.agent([{"say": "Before."}, waits(go), {"write": {"path": "done", "text": "{history}"}}], load=loads)
    plan = house.start(ONE)
    with house.working() as worker:
        house.until(worker, plan.id, begun(house, plan.id))
        (pid,) = processes(house)
        os.kill(pid, signal.SIGKILL)
        go.touch()
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    (step,) = view.steps
    assert step.restarts == 1
    second = house.said(view.tasks[0].id, MessageRole.USER)[1]
    if loads:
        assert second.startswith("You were interrupted")
    else:
        assert "the session was lost" in second
        assert "> Before." in second
        assert "Do it" in second
    assert ("Do it" in house.files(plan.branch)["done"]) is loads, "a loaded session knows its first prompt"


def test_an_agent_that_dies_again_and_again_fails_its_attempt(house: Agents) -> None:
    house.agent([{"say": "I fall."}, {"stderr": "segmentation fault"}, {"crash": {"code": 3}}])
    view = house.run(plan_of("title: one, instructions: Do it, max_attempts: 1"))
    assert view.tasks[0].failure is FailureKind.AGENT
    assert "exit code 3: segmentation fault" in view.tasks[0].error
    assert (len(view.steps), view.steps[0].restarts) == (1, 3)


def test_tokens_of_all_processes_of_a_step_are_counted(house: Agents) -> None:
    crash_once = {"once": str(house.folder / "crashed"), "crash": {"code": 3}}
    on = {"usage": {"used": 2, "cost": 0.75, "input": 5}}
    house.agent([{"usage": {"used": 1, "cost": 0.25}}, crash_once, on, {"say": "Done."}])
    view = house.run(ONE)
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert (view.steps[0].tokens, view.steps[0].cost_usd) == (5, 0.75), "the cost is told of the session as a whole"
    assert sum(message.cost_usd for message in house.talk(view.tasks[0].id)) == 0.75


def test_tokens_without_a_cost_are_priced_where_the_model_is_known(house: Agents) -> None:
    house.house.settings.prices = house.folder / "prices"
    house.house.settings.prices.write_text('price = [{ model = "small", input = 1.0, cached = 0.1, output = 5.0 }]\n')
    house.agent([{"usage": {"input": 500_000, "output": 100_000}}, {"say": "Done."}], models=["small"], model="small")
    view = house.run(ONE)
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert (view.steps[0].tokens, view.steps[0].cost_usd) == (600_000, 1.0)


# -- faults ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What an agent does wrong, and what is said of it. `steps`: as many attempts are made."""

    turn: Sequence[Action]
    kind: FailureKind
    said: str
    steps: int = 2
    start: Sequence[Action] = ()
    about: Mapping[str, Any] | None = None


FAULTS = {
    "not logged in": Fault([], FailureKind.LOGIN, "not logged in", 1, about={"auth": "required"}),
    "another protocol": Fault([], FailureKind.AGENT, "speaks version 9", about={"protocol": 9}),
    "dies at start": Fault(
        [], FailureKind.START, "no licence", start=[{"stderr": "no licence"}, {"crash": {"code": 3}}]
    ),
    "garbage": Fault([{"garbage": 200}, {"sleep": 30}], FailureKind.AGENT, "no messages of ACP"),
    "an error": Fault([{"fail": "boom"}], FailureKind.AGENT, "boom"),
    "refuses": Fault([{"stop": "refusal"}], FailureKind.AGENT, "refused"),
    "never answers": Fault([{"hang": True}], FailureKind.TIMEOUT, "time limit"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_an_agent_does_wrong_is_said_and_tried_again_where_that_may_help(house: Agents, name: str) -> None:
    fault = FAULTS[name]
    house.agent(fault.turn, start=fault.start, **(fault.about or {}))
    limit = "timeout: 2, " if fault.kind is FailureKind.TIMEOUT else ""
    view = house.run(plan_of(f"title: one, instructions: Do it, {limit}max_attempts: 2"))
    assert view.tasks[0].failure is fault.kind, view.tasks[0].error
    assert fault.said in view.tasks[0].error
    assert len(view.steps) == fault.steps
    assert processes(house) == []
    assert list(database.examine(house.house)) == []


def test_a_missing_agent_is_said_with_how_to_get_it_and_not_tried_again(house: Agents) -> None:
    house.agent()
    plan = house.start(ONE)
    house.table("worker", ["no-such-agent-anywhere", "acp"])
    with house.working() as worker:
        view = house.until(worker, plan.id)
    assert (view.tasks[0].failure, len(view.steps)) == (FailureKind.MISSING, 1)
    assert "not installed" in view.tasks[0].error


def test_a_rate_limit_is_waited_out_without_using_up_an_attempt_and_the_session_goes_on(house: Agents) -> None:
    limited = {"once": str(house.folder / "limited"), "fail": "rate_limit"}
    house.agent([{"say": "Before."}, limited, {"say": "After."}])
    view = house.run(plan_of("title: one, instructions: Do it, max_attempts: 1"))
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert [(step.attempt, step.failure) for step in view.steps] == [(1, FailureKind.RATE_LIMIT), (1, None)]
    assert house.said(view.tasks[0].id, MessageRole.USER)[1].startswith("You were interrupted")
    assert any("429" in text for text in house.said(view.tasks[0].id, MessageRole.SYSTEM)), "the error is in the talk"


def test_a_flood_is_thinned_out_with_a_mark_and_the_work_goes_on(house: Agents) -> None:
    house.agent([{"flood": 120_000}, {"say": "Done."}])
    view = house.run(ONE)
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[0].error
    assert any("left out" in text for text in house.said(view.tasks[0].id, MessageRole.SYSTEM))


def test_children_that_an_agent_leaves_do_not_outlive_its_step(house: Agents) -> None:
    house.agent([{"leave_children": 3}, {"say": "Gone."}])
    view = house.run(ONE)
    assert view.plan.status is PlanStatus.COMPLETED
    assert carriers(view.steps[0]) == []


def test_without_a_sandbox_what_is_written_elsewhere_is_shown_by_its_whole_path(house: Agents) -> None:
    outside = house.folder / "outside"
    through = {"path": "../other", "text": "y\n", "client": True}
    house.agent([{"write": {"path": str(outside), "text": "x\n"}}, {"write": through}])
    view = house.run(ONE)
    assert view.plan.status is PlanStatus.COMPLETED
    assert view.steps[0].agent_config["sandbox"] == "none"
    own, refused = [each for each in house.talk(view.tasks[0].id) if each.role is MessageRole.TOOL]
    assert f"+++ b/{outside}" in str(own.tool_result)
    assert refused.is_error, "what goes through Holdfast stays inside"


def carriers(step: Step) -> list[str]:
    """Gives the processes that carry the step's token."""
    found: list[str] = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and step.id.encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(Path(f"/proc/{name}/cmdline").read_text())
        except OSError:
            continue
    return found
