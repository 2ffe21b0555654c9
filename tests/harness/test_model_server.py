"""The scripted model: each dialect, streamed and whole, errors, and turns that hang until they are released."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest
from tests.harness.model_server import AFTER_THE_SCRIPT, SIDE_ANSWER, ModelServer, Turn, model_server, run, write

SCHEMA = {"type": "object", "properties": {"filePath": {"type": "string"}, "content": {"type": "string"}}}
TOOLS: dict[str, Any] = {
    "/v1/chat/completions": {"type": "function", "function": {"name": "write", "parameters": SCHEMA}},
    "/v1/messages": {"name": "write", "input_schema": SCHEMA},
    "/v1/responses": {"type": "function", "name": "write", "parameters": SCHEMA},
}


def post(model: ModelServer, path: str, **body: Any) -> str:
    request = urllib.request.Request(f"{model.url}{path}", json.dumps({"model": "m", **body}).encode())
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", TOOLS)
def test_a_turn_is_said_in_every_dialect_with_the_words_of_the_tools_that_are_offered(path: str, stream: bool) -> None:
    with model_server(Turn("I write.", write("/w/a.txt", "one"))) as model:
        said = post(model, path, tools=[TOOLS[path]], stream=stream)
    events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")] or [json.loads(said)]
    text = json.dumps(events)
    assert "I" in text
    assert json.dumps({"filePath": "/w/a.txt", "content": "one"}) in text.replace('\\"', '"')
    assert [asked.turn for asked in model.requests] == [1]


def test_a_request_without_tools_takes_no_turn_of_the_script() -> None:
    with model_server(Turn("One.")) as model:
        path = "/v1/chat/completions"
        assert SIDE_ANSWER in post(model, path)
        assert "One." in post(model, path, tools=[TOOLS[path]])
        assert AFTER_THE_SCRIPT in post(model, path, tools=[TOOLS[path]])
        assert [asked.turn for asked in model.requests] == [0, 1, 2]


def test_an_error_of_the_script_is_one_of_http() -> None:
    with model_server(Turn(error=429)) as model:
        path = "/v1/messages"
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(model, path, tools=[TOOLS[path]])
        assert caught.value.code == 429
        assert "rate_limit_error" in caught.value.read().decode()


def test_a_turn_that_hangs_says_its_text_and_waits_to_be_released() -> None:
    path = "/v1/chat/completions"
    with model_server(Turn("Begun.", write("a", "b"), hang=True)) as model:
        body = {"model": "m", "stream": True, "tools": [TOOLS[path]]}
        request = urllib.request.Request(f"{model.url}{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request) as answer:
            begun = b""
            while b"Begun." not in begun:
                begun += answer.readline()
            threading.Timer(0.05, model.release).start()
            assert b"filePath" not in begun
            assert b"filePath" in answer.read()


def test_a_call_of_a_tool_that_is_not_offered_fails_the_script() -> None:
    from tests.harness.model_server import _tool_use

    with pytest.raises(AssertionError, match="no tool to run is offered, only write"):
        _tool_use(run("ls"), {"write": SCHEMA}, "call_1")
