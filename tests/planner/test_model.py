"""Drafting with a model behind a real HTTP API: what comes of good answers, of bad ones, and of none."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.planner.drafts import CIRCULAR, GOOD
from tests.planner.models import ModelApi, Reply, model_api

from holdfast.domain.conversation import TokenUsage
from holdfast.errors import HoldfastError, Unavailable, UsageError, UserError
from holdfast.planner import Context, ModelDrafter, draft_plan

NOTHING_KNOWN = Context("BEGIN files\nREADME.md\nEND files", (), ())


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    monkeypatch.setenv("GOOGLE_API_KEY", "google-test")


def drafter(api: ModelApi, name: str = "openai-chat:gpt-6-sol", timeout_seconds: float = 60.0) -> ModelDrafter:
    url = f"{api.url}/v1" if name.startswith("openai") else api.url
    return ModelDrafter(name, base_url=url, timeout_seconds=timeout_seconds, max_tokens=4000)


def drafted(api: ModelApi, name: str = "openai-chat:gpt-6-sol", timeout_seconds: float = 60.0):
    return asyncio.run(draft_plan(drafter(api, name, timeout_seconds), "Greet people", NOTHING_KNOWN))


def refused(*replies: Reply, timeout_seconds: float = 60.0) -> tuple[HoldfastError, ModelApi]:
    with model_api(*replies) as api, pytest.raises(HoldfastError) as caught:
        drafted(api, timeout_seconds=timeout_seconds)
    return caught.value, api


@pytest.mark.parametrize("name", ["openai-chat:gpt-6-sol", "anthropic:claude-opus-5"])
def test_a_good_answer_is_a_plan_and_its_usage_is_told(name: str) -> None:
    with model_api(Reply(call=GOOD)) as api:
        made = drafted(api, name)
    assert [task.key for task in made.result.phases[0].tasks] == ["write", "tell-of-it"]
    assert made.result.phases[0].tasks[1].depends_on == ("write",)
    assert made.answers == 1
    assert made.author == name
    assert made.usage.total_tokens == 1200
    assert made.usage.cached_tokens == 400
    assert "Greet people" in json.dumps(api.asked[0])
    assert api.keys[0].endswith("test")


@pytest.mark.parametrize("name", ["openai-chat:gpt-6-sol", "openai:gpt-6-sol", "google:gemini-3.5-flash"])
def test_thoughts_and_cached_tokens_are_told_apart(name: str) -> None:
    with model_api(Reply(call=GOOD)) as api:
        assert drafted(api, name).usage == TokenUsage(600, 150, 400, 50)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"Here is the plan:\n```json\n{json.dumps(GOOD, indent=1)}\n```\nShall I go on?",
        f"I looked at {{}} and {{this}} first. {json.dumps(GOOD)}",
    ],
    ids=["alone", "fenced", "in prose"],
)
def test_an_answer_in_words_is_read_as_well(text: str) -> None:
    with model_api(Reply(text=text)) as api:
        assert drafted(api).result.title == "Add a greeting"


@pytest.mark.parametrize("name", ["openai-chat:gpt-6-sol", "anthropic:claude-opus-5"])
def test_an_invalid_plan_goes_back_with_its_errors_in_the_same_conversation(name: str) -> None:
    with model_api(Reply(call=CIRCULAR), Reply(call={"title": "x"}), Reply(call=GOOD)) as api:
        made = drafted(api, name)
    assert made.answers == 3
    assert made.usage.total_tokens == 3600
    second, third = (json.dumps(each["messages"][-1]) for each in api.asked[1:])
    assert "in a circle: one" in second
    assert 'run: \\"true\\"' in second.replace("'", '"') or "One" in second, "it sees the plan file that lines refer to"
    assert "phases: Field required" in third
    assert len(api.asked[2]["messages"]) > len(api.asked[1]["messages"]) > len(api.asked[0]["messages"])


def test_a_correction_answers_the_call_that_it_is_about() -> None:
    with model_api(Reply(call=CIRCULAR), Reply(text="no JSON"), Reply(call=GOOD)) as api:
        drafted(api)
    roles = [message["role"] for message in api.asked[2]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize(("name", "said"), [("openai:gpt-6-sol", "input"), ("google:gemini-3.5-flash", "contents")])
def test_other_apis_are_asked_again_in_the_same_conversation_too(name: str, said: str) -> None:
    with model_api(Reply(call=CIRCULAR), Reply(text=json.dumps(GOOD))) as api:
        made = drafted(api, name)
    assert (made.result.title, made.answers, made.usage.total_tokens) == ("Add a greeting", 2, 2400)
    assert "in a circle: one" in json.dumps(api.asked[1][said][-1])
    assert len(api.asked[1][said]) > len(api.asked[0][said])
    assert all(key.endswith("test") for key in api.keys)


def test_an_answer_that_is_never_valid_ends_in_one_error_after_three_tries() -> None:
    error, api = refused(Reply(call=CIRCULAR))
    assert isinstance(error, UserError)
    assert error.code == "draft_unusable"
    assert "in 3 answers" in error.message
    assert "in a circle" in error.message
    assert len(api.asked) == 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text=""),
        Reply(text="I will not write JSON today."),
        Reply(text="{" * 50_000),
        Reply(text='{"a":' * 50_000),
        Reply(text="[1, 2, 3]"),
        Reply(call='{"title": "cut of'),
        Reply(call={"title": ["a list"], "phases": "none"}),
        Reply(call={**GOOD, "phases": []}),
        Reply(call={**GOOD, "title": "a\x07bell"}),
        Reply(call={**GOOD, "budget": {"max_cost_usd": 10**9}}),
    ],
    ids=["empty", "prose", "braces", "deep", "list", "cut", "types", "no phases", "control", "unknown field"],
)
def test_garbage_is_one_clear_error(reply: Reply) -> None:
    error, _ = refused(reply)
    assert error.code == "draft_unusable"


def test_an_agent_that_was_not_named_is_sent_back() -> None:
    task = {"title": "Write", "instructions": "Write it.", "agent": "made-up"}
    plan = {"title": "P", "phases": [{"title": "Only", "tasks": [task]}]}
    with model_api(Reply(call=plan)) as api:
        made = asyncio.run(draft_plan(drafter(api), "Greet", NOTHING_KNOWN, agents=["made-up"]))
    assert made.result.phases[0].tasks[0].agent == "made-up"
    error, _ = refused(Reply(call=plan))
    assert "made-up" in error.message


@pytest.mark.parametrize(
    ("reply", "code", "requests"),
    [
        (Reply(status=401), "model_key_refused", 1),
        (Reply(status=403), "model_key_refused", 1),
        (Reply(status=404), "model_unknown", 1),
        (Reply(status=429), "model_busy", 3),
        (Reply(status=500), "model_failed", 3),
        (Reply(status=503), "model_busy", 3),
        (Reply(body="<html>a proxy</html>"), "model_failed", 1),
        (Reply(body='{"choices": 7}'), "model_failed", 1),
        (Reply(refusal="I cannot help with that"), "model_refused", 1),
        (Reply(text="x", finish="length"), "model_cut_off", 1),
        (Reply(text="x", finish="content_filter"), "model_refused", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_failure_of_a_model_has_its_error(reply: Reply, code: str, requests: int) -> None:
    error, api = refused(reply)
    assert error.code == code, error.message
    assert error.hint
    assert len(api.asked) == requests


def test_a_busy_server_is_asked_again() -> None:
    with model_api(Reply(status=429), Reply(status=500), Reply(call=GOOD)) as api:
        assert drafted(api).answers == 1
    assert len(api.asked) == 3


def test_silence_ends_at_the_time_limit() -> None:
    error, _ = refused(Reply(silent=True), timeout_seconds=0.2)
    assert error.code == "model_timeout"
    assert "0.2 s" in error.message


def test_a_server_that_is_not_there_is_told() -> None:
    with model_api(Reply()) as api:
        pass
    with pytest.raises(Unavailable) as caught:
        drafted(api)
    assert caught.value.code == "model_failed"


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(Unavailable, match="ANTHROPIC_API_KEY") as caught:
        ModelDrafter("anthropic:claude-opus-5", timeout_seconds=1, max_tokens=10)
    assert caught.value.code == "model_key_missing"


@pytest.mark.parametrize("name", ["", "nobody:nothing", "gpt", ":", "openai:", "test"])
def test_a_name_that_is_no_model_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        ModelDrafter(name, timeout_seconds=1, max_tokens=10)
