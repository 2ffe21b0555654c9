"""A coding agent drafts a plan: it looks at the project's files, changes nothing, and is asked again if need be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.conftest import Bench, git
from tests.engine.test_reviews import Action, agents

from holdfast.app import planning, plans, projects, wire
from holdfast.domain.budget import Budget
from holdfast.engine.agent_drafter import told_again
from holdfast.errors import OverBudget, Unavailable, UserError
from holdfast.planner import Drafter, ReviewType
from holdfast.store import iterations

PLAN = {
    "title": "Greet",
    "description": "Greets people.",
    "phases": [{"title": "All", "tasks": [{"title": "Write it", "instructions": "Write greet.py."}]}],
}


def drafter(bench: Bench, *turns: Sequence[Action]) -> Drafter:
    agents(bench, drafts=turns)
    commit = projects.start_commit(bench.house, bench.project, "")
    return wire.drafter(bench.house, bench.project, commit, agent="drafts")


def answer(value: object) -> Action:
    return {"say": f"Here it is.\n```json\n{json.dumps(value)}\n```"}


def leftovers(bench: Bench) -> list[Any]:
    drafts = bench.house.places.draft("x").parent
    return list(drafts.iterdir()) if drafts.is_dir() else []


def test_an_agent_drafts_a_plan_from_the_projects_files(bench: Bench) -> None:
    who = drafter(bench, [{"read": "README"}, {"say": "It says: {read}"}, {"usage": {"input": 7}}, answer(PLAN)])
    made = planning.generate(bench.house, bench.project, "Greet people", who)
    assert made.plan is not None
    assert (made.author, made.answers, made.usage.input_tokens) == ("agent:drafts", 1, 7)
    assert "Write greet.py." in made.text
    assert leftovers(bench) == []


def test_an_answer_that_does_not_fit_is_sent_back_with_what_was_said_before(bench: Bench) -> None:
    told = {"once": str(bench.repository.parent / "first"), "say": "I would rather not.", "stop": "end_turn"}
    who = drafter(bench, [told, answer(PLAN)])
    made = planning.generate(bench.house, bench.project, "Greet people", who)
    assert made.answers == 2
    again = told_again([("Draft a plan.", "I would rather not.")])
    assert "You answered:\n> I would rather not." in again


def test_an_agent_that_never_fits_is_an_error_and_nothing_is_stored(bench: Bench) -> None:
    who = drafter(bench, [{"say": "No."}])
    with pytest.raises(UserError, match="agent:drafts gave no usable plan in 3 answers"):
        planning.generate(bench.house, bench.project, "Greet people", who)
    assert leftovers(bench) == []


def test_an_agent_that_drafts_changes_nothing(bench: Bench) -> None:
    tries: list[Action] = [
        {"ask": {"title": "Run", "kind": "execute", "allow": [{"say": "it ran"}], "reject": [{"say": "refused"}]}},
        {"write": {"path": "README", "text": "mine\n"}},
        {"say": "{output}"},
    ]
    who = drafter(bench, tries)
    said = asyncio.run(who("Draft.", {})).text
    assert said.startswith("refused")
    assert (bench.repository / "README").read_text() == "hello\n"
    assert git(bench.repository, "status", "--porcelain") == ""


def test_an_agent_drafts_in_its_mode_that_changes_nothing(bench: Bench) -> None:
    drafter(bench, [{"say": "in mode {mode}"}])
    script = bench.repository.parent / "drafts.json"
    script.write_text(json.dumps({**json.loads(script.read_text()), "agent": {"modes": ["code", "look"]}}))
    file = bench.house.settings.agents
    file.write_text(f'{file.read_text()}mode = "code"\nread_only_mode = "look"\n')
    commit = projects.start_commit(bench.house, bench.project, "")
    who = wire.drafter(bench.house, bench.project, commit, agent="drafts")
    assert asyncio.run(who("Draft.", {})).text == "in mode look"


def test_a_review_of_a_plan_that_has_begun_sees_the_work_that_is_done(bench: Bench) -> None:
    tasks = "{title: Make, run: echo made > made.txt}, {title: Break, run: 'false', max_attempts: 1}"
    view = bench.run(f"title: T\nphases: [{{title: a, tasks: [{tasks}]}}]")
    agents(bench, drafts=[[{"read": "made.txt"}, {"say": "It says: {read}"}, answer({"suggestions": []})]])
    at = planning.present_commit(bench.house, view.project, view.plan)
    who = wire.drafter(bench.house, view.project, at, agent="drafts")
    made = planning.review(bench.house, view.plan.id, ReviewType.ADD_MISSING, who)
    assert (made.author, made.suggestions) == ("agent:drafts", ())
    with bench.house.database.read() as connection:
        kept = iterations.get(connection, view.plan.id, made.iteration)
    assert "made.txt" in str(kept.content["prompt"])


def test_what_drafts_and_reviews_use_is_the_plans(bench: Bench) -> None:
    who = drafter(bench, [{"usage": {"input": 60}}, answer(PLAN)])
    plan = planning.generate(bench.house, bench.project, "Greet people", who).plan
    assert plan is not None
    assert plans.show(bench.house, plan.id).usage.tokens == 60
    plans.set_budget(bench.house, plan.id, Budget(max_tokens=100))
    who = drafter(bench, [{"usage": {"input": 50}}, answer({"suggestions": []})])
    planning.review(bench.house, plan.id, ReviewType.ADD_MISSING, who)
    view = plans.show(bench.house, plan.id)
    assert (view.usage.tokens, view.spent.input_tokens) == (110, 110)
    with pytest.raises(OverBudget, match="max_tokens: 110 of 100 used"):
        planning.review(bench.house, plan.id, ReviewType.ADD_MISSING, who)


def test_an_agent_that_fails_is_told_of(bench: Bench) -> None:
    who = drafter(bench, [{"fail": "auth"}])
    with pytest.raises(Unavailable, match="the agent drafts gave no answer"):
        asyncio.run(who("Draft.", {}))
    bench.house.settings.agents.write_text('[gone]\ncommand = ["no-such-program-anywhere"]\n')
    with pytest.raises(Unavailable, match="not installed"):
        wire.drafter(bench.house, bench.project, "HEAD", agent="gone")
