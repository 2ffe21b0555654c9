"""A plan's supervisor is asked: real sessions over ACP with the scripted agent, in the plan's own conversation."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.conftest import git, statuses
from tests.engine.test_agents import Agents, either_house, house

from holdfast.app import conversations, database, edits, plans, supervisor, tokens
from holdfast.domain.budget import Budget
from holdfast.domain.conversation import Message, MessageRole
from holdfast.domain.plan import Plan
from holdfast.domain.planfile import parse
from holdfast.errors import OverBudget, Unavailable, UsageError

__all__ = ["either_house", "house"]

PLAN = """
title: Ours
phases:
  - title: Work
    tasks:
      - {key: build, title: Build, run: "echo built > built.txt"}
"""


def drafted(house: Agents, text: str = PLAN) -> Plan:
    return plans.create(house.house, house.project, parse(text, source="plan.yaml"))


def talk(house: Agents, plan: Plan) -> list[Message]:
    return list(conversations.show(house.house, plan.id).items)


def said(house: Agents, plan: Plan) -> list[tuple[str, str]]:
    return [(str(each.role), each.content) for each in talk(house, plan) if each.content]


def test_question_and_answer_are_the_plans_conversation(either_house: Agents) -> None:
    house = either_house
    house.agent(
        [
            {"think": "hm"},
            {"read": "README"},
            {"usage": {"used": 10, "cost": 0.5, "input": 7, "output": 3}},
            {"say": "It says {read}"},
        ]
    )
    plan = drafted(house)
    heard: list[object] = []
    done = supervisor.ask(house.house, plan.id, "What does it say?", tell=lambda _, updates: heard.extend(updates))
    assert (done.answer, done.author) == ("It says hello\n", "agent:worker")
    assert (done.usage.total_tokens, done.usage.cost_usd) == (10, 0.5)
    assert heard
    first, *_, last = talk(house, plan)
    assert (first.role, first.content) == (MessageRole.USER, "What does it say?")
    assert (last.role, last.content) == (MessageRole.ASSISTANT, "It says hello\n")
    assert [each.tool_result for each in talk(house, plan) if each.role is MessageRole.TOOL] == ["hello"]
    assert not tokens.list_(house.house).items
    assert list(database.examine(house.house)) == []


def test_it_knows_the_plan_and_what_it_is_asked(house: Agents) -> None:
    house.agent([{"say": "{prompt}"}])
    plan = drafted(house)
    told = supervisor.ask(house.house, plan.id, "What is left?").answer
    assert "You never change the code" in told
    assert "`build` Build: pending" in told
    assert told.rstrip().endswith("What is left?")


def test_a_second_question_goes_on_in_the_session(house: Agents) -> None:
    house.agent([{"say": "first"}], [{"say": "{prompt}\n--\n{history}"}])
    plan = drafted(house)
    supervisor.ask(house.house, plan.id, "One?")
    told = supervisor.ask(house.house, plan.id, "Two?").answer
    prompt, _, history = told.partition("--")
    assert "You are the supervisor" not in prompt
    assert "Two?" in prompt
    assert "One?" in history
    assert said(house, plan)[:3] == [("user", "One?"), ("assistant", "first"), ("user", "Two?")]


@pytest.mark.parametrize("other", [False, True], ids=["cannot load", "another agent"])
def test_a_session_that_does_not_know_the_conversation_is_told_it(house: Agents, other: bool) -> None:
    house.agent([{"say": "It is blue."}], [{"say": "{prompt}"}], load=other)
    house.agent([{"say": "{prompt}"}], name="second", load=False)
    plan = drafted(house)
    supervisor.ask(house.house, plan.id, "Which colour?")
    house.agent([{"say": "{prompt}"}], load=other)
    told = supervisor.ask(house.house, plan.id, "Why?", agent="second" if other else "").answer
    assert "You were asked:\n> Which colour?" in told
    assert "You said:\n> It is blue." in told
    assert told.count("Why?") == 1


def test_it_changes_the_plan_by_its_tools_and_reaches_no_other(house: Agents) -> None:
    new = {"title": "Document", "run": "echo docs > docs.txt"}
    house.agent(
        [
            {"ask": {"title": "mcp__holdfast__task_add", "kind": "other", "reject": [{"stop": "refusal"}]}},
            {"mcp": {"tool": "task_add", "arguments": new}},
            {"mcp": {"tool": "plan_get", "arguments": {"plan": "P2"}}},
            {"say": "{output}"},
        ]
    )
    plan = drafted(house)
    other = drafted(house, PLAN.replace("Ours", "Theirs"))
    assert other.number == 2
    answer = supervisor.ask(house.house, plan.id, "Add documentation").answer
    assert "reaches no plan 'P2'" in answer
    assert "document" in statuses(plans.show(house.house, plan.id))
    assert "document" not in statuses(plans.show(house.house, other.id))
    (edit,) = edits.history(house.house, plan.id).items
    assert edit.author == "agent:P1"
    for path in house.house.settings.data.rglob("*.jsonl"):
        assert b"hft_" not in path.read_bytes()


def test_it_cannot_change_the_code(house: Agents) -> None:
    house.agent(
        [
            {"ask": {"title": "Edit README", "kind": "edit", "path": "README", "reject": [{"say": "no edit. "}]}},
            {"ask": {"title": "holdfast task_add", "kind": "execute", "reject": [{"say": "no command. "}]}},
            {"write": {"path": "README", "text": "mine\n", "client": True}},
            {"say": "{output}"},
            {"write": {"path": "README", "text": "mine\n"}},
        ]
    )
    view = house.run(PLAN)
    answer = supervisor.ask(house.house, view.plan.id, "Change it").answer
    assert answer.split() == ["no", "edit.", "no", "command.", "fs/write_text_file", "is", "not", "offered"]
    assert house.files(view.plan.branch)["README"] == "hello\n"
    assert (house.repository / "README").read_text() == "hello\n"
    assert git(house.repository, "status", "--porcelain") == ""
    house.agent([{"read": "README"}, {"read": "built.txt"}, {"say": "{read}"}])
    assert supervisor.ask(house.house, view.plan.id, "And now?").answer == "built\n", "it sees the branch as it is"


def test_it_is_asked_while_the_plan_runs(house: Agents, tmp_path: Path) -> None:
    house.agent([{"mcp": {"tool": "plan_get"}}, {"say": "{output}"}])
    waits = PLAN.replace("echo built > built.txt", f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
    plan = house.start(waits)
    with house.working() as worker:
        house.until(worker, plan.id, lambda view: statuses(view) == {"build": "running"})
        assert '"running"' in supervisor.ask(house.house, plan.id, "How is it?").answer
        (tmp_path / "go").touch()
        assert house.until(worker, plan.id).plan.status == "completed"


def test_an_agent_that_dies_goes_on_in_its_session(house: Agents) -> None:
    first = str(house.folder / "died")
    house.agent([{"say": "I begin. "}, {"once": first, "crash": {"code": 9}}, {"say": "I end: {prompt}"}])
    plan = drafted(house)
    done = supervisor.ask(house.house, plan.id, "Go?")
    assert done.answer.startswith("I begin.")
    assert "You were interrupted" in done.answer
    assert [each for each in said(house, plan) if each[0] == "user"] == [("user", "Go?")]


def test_what_a_session_tells_of_itself_as_a_whole_is_counted_once(house: Agents) -> None:
    died = {"once": str(house.folder / "died"), "crash": {"code": 9}}
    house.agent([{"usage": {"used": 1, "cost": 0.25}}, died, {"usage": {"used": 2, "cost": 0.75}}, {"say": "one"}])
    plan = drafted(house)
    assert supervisor.ask(house.house, plan.id, "Go?").usage.cost_usd == 0.75
    house.agent([{"usage": {"used": 3, "cost": 1.0}}, {"say": "two"}])
    assert supervisor.ask(house.house, plan.id, "And now?").usage.cost_usd == 0.25
    assert plans.show(house.house, plan.id).spent.cost_usd == 1.0


def test_a_limit_of_cost_says_that_it_does_not_see_what_an_answer_used(house: Agents) -> None:
    house.agent([{"usage": {"input": 5}}, {"say": "one"}])
    plan = drafted(house, PLAN + "budget: {max_cost_usd: 1}")
    supervisor.ask(house.house, plan.id, "Go?")
    (warning,) = plans.show(house.house, plan.id).warnings
    assert "does not see tokens" in warning


def test_no_answer_is_told_and_does_not_hinder_the_next_question(house: Agents) -> None:
    house.agent([{"fail": "auth"}])
    plan = drafted(house)
    with pytest.raises(Unavailable, match="gave no answer"):
        supervisor.ask(house.house, plan.id, "Hello?")
    assert said(house, plan)[-1][0] == "system"
    house.agent([{"say": "here"}])
    assert supervisor.ask(house.house, plan.id, "And now?").answer == "here"


def test_a_plans_budget_stops_it_and_what_it_used_counts_as_it_goes(house: Agents) -> None:
    house.agent([{"say": "It costs."}, {"spend": {"input": 60}}, {"hang": True}])
    plan = drafted(house, PLAN + "budget: {max_tokens: 50}")
    with pytest.raises(OverBudget, match="max_tokens: 60 of 50 used"):
        supervisor.ask(house.house, plan.id, "What does it cost?")
    assert plans.show(house.house, plan.id).usage.tokens == 60
    house.agent([{"say": "more"}])
    with pytest.raises(OverBudget, match="budget is used up"):
        supervisor.ask(house.house, plan.id, "And now?")
    assert "more" not in [text for _, text in said(house, plan)]
    plans.set_budget(house.house, plan.id, Budget(max_tokens=100))
    assert supervisor.ask(house.house, plan.id, "And now?").answer == "more"


def test_who_is_not_there_is_not_asked(house: Agents) -> None:
    plan = drafted(house)
    house.table("gone", ["no-such-program-anywhere"])
    with pytest.raises(Unavailable, match="not installed"):
        supervisor.ask(house.house, plan.id, "Hello?", agent="gone")
    with pytest.raises(UsageError, match="empty"):
        supervisor.ask(house.house, plan.id, " ")
    assert talk(house, plan) == []
