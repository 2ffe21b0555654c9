"""Plans that a model helps with: the real program against a model's API on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cli.conftest import Program, Result
from tests.planner.drafts import CIRCULAR, GOOD
from tests.planner.models import ModelApi, Reply, model_api

SHOP = """
title: Shop
phases:
  - title: Build
    tasks:
      - {title: Model, key: model, run: echo m > m}
      - {title: View, key: view, run: echo v > v, depends_on: [model]}
  - title: Ship
    tasks:
      - {title: Pack, key: pack, run: cat m v > packed}
"""
SUGGESTIONS = {
    "suggestions": [
        {
            "kind": "add_task",
            "target": "Build",
            "reasoning": "Nothing is tested.",
            "task": {"title": "Test", "key": "test", "run": "test -s m"},
        },
        {
            "kind": "modify_task",
            "target": "pack",
            "reasoning": "It is not checked.",
            "changes": {"verify": ["test -s packed"]},
        },
        {
            "kind": "break_down_task",
            "target": "view",
            "reasoning": "It is two things.",
            "parts": [
                {"title": "Outline", "key": "outline", "run": "echo v > v"},
                {"title": "Colour", "key": "colour", "run": "echo c >> v", "depends_on": ["outline"]},
            ],
        },
        {
            "kind": "add_phase",
            "target": "Ship",
            "reasoning": "Somebody has to know.",
            "phase": {"title": "Tell", "tasks": [{"title": "Write news", "run": "echo n > n"}]},
        },
        {"kind": "reorder", "target": "Ship", "reasoning": "r", "order": ["pack"]},
    ]
}


@pytest.fixture
def api() -> Iterator[ModelApi]:
    with model_api() as served:
        yield served


@pytest.fixture
def planned(ready: Program, api: ModelApi) -> Program:
    """The program in a registered repository, with a model to draft plans."""
    ready.environment.update(api.environment)
    return ready


def keys(program: Program, plan: str = "P1") -> list[str]:
    return [task["key"] for task in program("plan", "show", plan, "--json").json["tasks"]]


def reviewed(program: Program, api: ModelApi, plan: str = SHOP) -> Result:
    assert program("plan", "new", program.plan(plan)).code == 0
    api.replies.append(Reply(call={"suggestions": SUGGESTIONS["suggestions"][:4]}))
    return program("plan", "review", "P1")


def test_a_request_becomes_a_draft_with_an_iteration(planned: Program, api: ModelApi) -> None:
    (planned.repository / ".env").write_text("TOKEN=hidden\n", encoding="utf-8")
    api.replies.append(Reply(call=GOOD))
    made = planned("plan", "generate", "Greet people in README.md", "--gate", "plan", "--json")
    assert made.code == 0, made.err
    assert made.json["plan"]["status"] == "draft"
    assert made.json["plan"]["gates"] == ["plan"]
    assert made.json["usage"]["input_tokens"] == 600
    assert made.json["cost_usd"] == pytest.approx((600 * 2 + 400 * 0.2 + 200 * 10) / 1e6)
    assert made.json["files"] == ["README.md"]
    told = api.asked[0]["messages"][0]["content"]
    assert "# shop" in told
    assert "hidden" not in told
    assert keys(planned) == ["write", "tell-of-it"]
    [iteration] = planned("plan", "iterations", "P1", "--json").json["items"]
    assert iteration["kind"] == "generate"
    assert iteration["content"]["request"] == "Greet people in README.md"
    assert iteration["content"]["usage"]["cost_usd"] == made.json["cost_usd"]
    assert iteration["content"]["prompt"] == told
    assert "Greet people" in planned("plan", "iterations", "P1").out
    assert planned("plan", "revert", "P1", "1").code == 3


def test_a_dry_run_shows_the_draft_and_stores_nothing(planned: Program, api: ModelApi) -> None:
    api.replies.append(Reply(call=GOOD))
    shown = planned("plan", "generate", "Greet people", "--dry-run")
    assert shown.code == 0
    assert "echo hello > hello.txt" in shown.out
    assert "nothing was stored" in shown.out
    assert planned("plan", "list", "--json").json["items"] == []


@pytest.mark.parametrize(
    ("reply", "code", "exit_code"),
    [
        (Reply(call=CIRCULAR), "draft_unusable", 1),
        (Reply(status=401), "model_key_refused", 5),
        (Reply(text="no", finish="content_filter"), "model_refused", 1),
    ],
    ids=["unusable", "key", "refused"],
)
def test_a_failed_draft_leaves_nothing(
    planned: Program, api: ModelApi, reply: Reply, code: str, exit_code: int
) -> None:
    api.replies.append(reply)
    failed = planned("plan", "generate", "Greet people", "--json")
    assert failed.code == exit_code
    assert f'"code": "{code}"' in failed.err
    assert planned("plan", "list", "--json").json["items"] == []


def test_without_a_model_it_says_how_to_name_one(ready: Program) -> None:
    missing = ready("plan", "generate", "Greet people")
    assert missing.code == 5
    assert "HOLDFAST_PLANNER_MODEL" in missing.err
    assert ready("plan", "generate", "Greet people", "--model", "gpt").code == 2
    assert ready("plan", "generate", "Greet", "--model", "a:b", "--agent", "c").code == 2
    assert ready("plan", "generate", "  ", "--model", "openai-chat:x", OPENAI_API_KEY="k").code == 2
    assert ready("plan", "generate", "Greet", "--model", "anthropic:claude-opus-5", ANTHROPIC_API_KEY="").code == 5


def test_a_request_is_drafted_and_run(planned: Program, api: ModelApi) -> None:
    api.replies.append(Reply(call=GOOD))
    assert planned("run", "Greet people").code == 2, "off a terminal it wants --yes, before anything is asked"
    assert api.asked == []
    done = planned("run", "Greet people", "--yes")
    assert done.code == 0, done.err
    assert "Add a greeting" in done.out
    assert planned("plan", "show", "P1", "--json").json["plan"]["status"] == "completed"


def test_a_person_is_asked_before_a_drafted_plan_runs(planned: Program, api: ModelApi) -> None:
    api.replies.append(Reply(call=GOOD))
    terminal = planned.on_terminal("run", "Greet people")
    terminal.wait_for("Go on?")
    terminal.type("n\n")
    assert terminal.end() == 0
    assert planned("plan", "show", "P1", "--json").json["plan"]["status"] == "draft"


def test_suggestions_are_shown_applied_and_taken_back(planned: Program, api: ModelApi) -> None:
    shown = reviewed(planned, api)
    assert shown.code == 0, shown.err
    assert "Nothing is tested." in shown.out
    assert "+    - test -s packed" in shown.out
    dry = planned("plan", "apply", "P1", "1", "--dry-run")
    assert "key: test" in dry.out
    assert keys(planned) == ["model", "view", "pack"]

    applied = planned("plan", "apply", "P1", "1", "3", "4", "--json")
    assert applied.code == 0, applied.err
    assert keys(planned) == ["model", "outline", "colour", "test", "pack", "write-news"]
    assert planned("plan", "apply", "P1", "2").code == 0

    reverted = planned("plan", "revert", "P1", str(applied.json["iteration"]))
    assert reverted.code == 0, reverted.err
    exported = planned("plan", "export", "P1").out
    assert "test -s packed" in exported, "what was changed elsewhere since stays"
    assert keys(planned) == ["model", "view", "pack"]
    kinds = [each["kind"] for each in planned("plan", "iterations", "P1", "--json").json["items"]]
    assert kinds == ["revert", "apply", "apply", "review"]


def test_a_stale_suggestion_is_refused_and_none_is_applied(planned: Program, api: ModelApi) -> None:
    reviewed(planned, api)
    assert planned("plan", "apply", "P1", "2").code == 0
    refused = planned("plan", "apply", "P1", "1", "2")
    assert refused.code == 3
    assert "'pack' was changed since" in refused.err
    assert "test" not in keys(planned)
    assert planned("plan", "apply", "P1", "9").code == 2
    assert planned("plan", "apply", "P1", "1", "--review", "2").code == 2


def test_what_has_started_is_neither_changed_nor_taken_back(planned: Program, api: ModelApi) -> None:
    reviewed(planned, api, SHOP.replace("title: Build\n", "title: Build\n    pause_after: true\n"))
    assert planned("plan", "apply", "P1", "1", "4").code == 0
    assert planned("plan", "execute", "P1").code == 7
    started = planned("plan", "apply", "P1", "3")
    assert started.code == 3
    assert "completed" in started.err
    assert planned("plan", "revert", "P1", "2").code == 3
    assert planned("plan", "apply", "P1", "2").code == 0, "the second phase has not started"
    assert planned("resume").code == 0
    view = planned("plan", "show", "P1", "--json").json
    assert next(task for task in view["tasks"] if task["key"] == "pack")["verify"] == ["test -s packed"]


def test_a_review_looks_at_a_phase_or_a_task(planned: Program, api: ModelApi) -> None:
    assert planned("plan", "new", planned.plan(SHOP)).code == 0
    api.replies.append(Reply(call={"suggestions": []}))
    none = planned("plan", "review", "P1", "Ship", "--scope", "phase", "--type", "optimize_order")
    assert none.code == 0, none.err
    assert "no suggestion" in none.out
    assert planned("plan", "review", "P1", "view", "--scope", "task").code == 0
    assert "the phase 'Ship' alone" in api.asked[0]["messages"][0]["content"]
    assert "the key 'view' alone" in api.asked[1]["messages"][0]["content"]
    assert planned("plan", "review", "P1", "Nowhere", "--scope", "phase").code == 4
    assert planned("plan", "review", "P1", "view").code == 2
    assert planned("plan", "apply", "P1", "1").code == 2


def test_a_suggestion_that_does_not_fit_goes_back(planned: Program, api: ModelApi) -> None:
    assert planned("plan", "new", planned.plan(SHOP)).code == 0
    api.replies += [Reply(call=SUGGESTIONS), Reply(call={"suggestions": []})]
    assert planned("plan", "review", "P1").code == 0
    assert "suggestion 5 (reorder 'Ship')" in api.asked[1]["messages"][-1]["content"]


def test_an_estimate_comes_from_history_and_says_where_it_does_not(ready: Program) -> None:
    assert ready("plan", "new", ready.plan(SHOP)).code == 0
    guess = ready("plan", "estimate", "P1")
    assert guess.code == 0, guess.err
    assert "rough guess" in guess.out
    for _ in range(2):
        assert ready("run", ready.plan(SHOP)).code == 0
    known = ready("plan", "estimate", "P1", "--json").json
    assert {task["basis"] for task in known["tasks"]} == {"project"}
    assert [task["samples"] for task in known["tasks"]] == [6, 6, 6]
    assert known["cost_usd"] == {"low": 0.0, "middle": 0.0, "high": 0.0}
    spread = known["elapsed_seconds"]
    assert 0 < spread["low"] <= spread["middle"] <= spread["high"]


def test_the_cost_of_an_agent_is_unknown_without_a_price(ready: Program) -> None:
    plan = "title: A\nphases: [{title: P, tasks: [{title: T, instructions: Do it.}]}]\n"
    assert ready("plan", "new", ready.plan(plan)).code == 0
    assert ready("plan", "estimate", "P1", "--json").json["cost_usd"] is None
    assert "unknown" in ready("plan", "estimate", "P1").out
    priced = ready("plan", "estimate", "P1", "--model", "anthropic:claude-opus-5", "--json").json
    assert priced["cost_usd"]["low"] < priced["cost_usd"]["high"]
    assert ready("plan", "estimate", "P1", "--model", "mine").code == 2
    own = ready.home / "prices.toml"
    own.write_text('price = [{ model = "mine", input = 1, output = 1 }]\n', encoding="utf-8")
    mine = ready("plan", "estimate", "P1", "--model", "mine", "--json", HOLDFAST_PRICES=str(own))
    assert mine.json["cost_usd"]["middle"] == pytest.approx(mine.json["tokens"]["middle"] / 1e6)
