"""A model's API on loopback that answers as a test says: chat completions and responses as OpenAI has them, messages as
Anthropic, contents as Google."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer: `call` as the arguments of the tool that was offered, or `text`, or a whole HTTP answer by `status`.

    `silent` says nothing until the server ends.
    """

    text: str = ""
    call: object = None
    status: int = 200
    body: str = ""
    finish: str = ""
    refusal: str = ""
    silent: bool = False


@dataclass
class ModelApi:
    """The server: what it will say, and what it was asked."""

    url: str
    replies: list[Reply]
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOLDFAST_PLANNER_MODEL": "openai-chat:gpt-6-sol",
            "HOLDFAST_PLANNER_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": "sk-test",
        }


@contextmanager
def model_api(*replies: Reply) -> Iterator[ModelApi]:
    """Serves the replies, one per request, for the block; the last one again and again."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    api = ModelApi(f"http://127.0.0.1:{server.server_address[1]}", list(replies))
    server.api = api  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        api: ModelApi = self.server.api  # type: ignore[attr-defined]
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = api.replies[min(len(api.asked), len(api.replies) - 1)]
        api.asked.append(request)
        api.keys.append(next((self.headers[name] for name in _KEYS if name in self.headers), ""))
        if reply.silent:
            api.ended.wait()
            self.close_connection = True
            return
        body = reply.body
        if reply.status != 200:
            body = body or json.dumps({"error": {"message": f"told to say {reply.status}", "type": "test"}})
        elif not body:
            body = json.dumps(_speaker(self.path)(request, reply))
        data = body.encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        # The clients wait before they try again; these keep that short.
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


_KEYS = ("Authorization", "x-api-key", "x-goog-api-key")


def _speaker(path: str) -> Callable[[dict[str, Any], Reply], dict[str, Any]]:
    if path.endswith("/messages"):
        return _anthropic
    if path.endswith("/responses"):
        return _responses
    return _google if path.endswith(":generateContent") else _openai


def _openai(request: dict[str, Any], reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.refusal:
        message["refusal"] = reply.refusal
    if reply.call is not None:
        arguments = reply.call if isinstance(reply.call, str) else json.dumps(reply.call)
        function = {"name": request["tools"][0]["function"]["name"], "arguments": arguments}
        message["tool_calls"] = [{"id": f"call_{len(request['messages'])}", "type": "function", "function": function}]
    return {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": reply.finish or ("tool_calls" if reply.call is not None else "stop"),
            }
        ],
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "total_tokens": 1200,
            "prompt_tokens_details": {"cached_tokens": 400},
            "completion_tokens_details": {"reasoning_tokens": 50},
        },
    }


def _anthropic(request: dict[str, Any], reply: Reply) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    if reply.call is not None:
        name = request["tools"][0]["name"]
        content.append(
            {"type": "tool_use", "id": f"tool_{len(request['messages'])}", "name": name, "input": reply.call}
        )
    return {
        "id": "msg-1",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": content,
        "stop_reason": reply.finish or ("tool_use" if reply.call is not None else "end_turn"),
        "stop_sequence": None,
        "usage": {"input_tokens": 600, "cache_read_input_tokens": 400, "output_tokens": 200},
    }


def _responses(request: dict[str, Any], reply: Reply) -> dict[str, Any]:
    number = len(request["input"])
    said = {"type": "output_text", "text": reply.text, "annotations": []}
    output: list[dict[str, Any]] = [
        {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": [said]}
    ]
    if reply.call is not None:
        name, arguments = request["tools"][0]["name"], json.dumps(reply.call)
        call = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "status": "completed"}
        output = [{**call, "name": name, "arguments": arguments}]
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "model": request["model"],
        "output": output,
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 400},
            "output_tokens": 200,
            "output_tokens_details": {"reasoning_tokens": 50},
            "total_tokens": 1200,
        },
    }


def _google(request: dict[str, Any], reply: Reply) -> dict[str, Any]:
    part: dict[str, Any] = {"text": reply.text}
    if reply.call is not None:
        part = {"functionCall": {"name": request["tools"][0]["functionDeclarations"][0]["name"], "args": reply.call}}
    return {
        "responseId": f"g-{len(request['contents'])}",
        "modelVersion": "gemini-3.5-flash",
        "candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 1000,
            "cachedContentTokenCount": 400,
            "candidatesTokenCount": 150,
            "thoughtsTokenCount": 50,
            "totalTokenCount": 1200,
        },
    }
