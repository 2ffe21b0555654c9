"""How models are spoken to over HTTP: OpenAI chat completions, OpenAI responses and Anthropic messages.

Only what agents were seen to need. Each dialect says which tools a request offers, and writes an answer as events of a
stream or as one document. Streams pause once, after the text: there `hold` is called.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Body = Mapping[str, Any]
Hold = Callable[[], None]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class ToolUse:
    """A call of one of the tools that the request offered, under the agent's own names."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the model says to one request."""

    text: str
    calls: tuple[ToolUse, ...]
    input_tokens: int
    output_tokens: int


class Dialect(Protocol):
    def tools(self, body: Body) -> dict[str, Any]:
        """Gives the tools that the request offers: their JSON schemas by name."""
        ...

    def stream(self, answer: Answer, model: str, hold: Hold) -> Iterator[bytes]: ...

    def whole(self, answer: Answer, model: str) -> Body: ...

    def error(self, status: int, message: str) -> Body: ...


def _event(value: object, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{head}data: {text}\n\n".encode()


def _pieces(text: str) -> Iterator[str]:
    """Cuts a text at its blanks, as models stream it."""
    words = text.split(" ")
    yield from (word if n == 0 else f" {word}" for n, word in enumerate(words) if text)


class Chat:
    """OpenAI chat completions."""

    def tools(self, body: Body) -> dict[str, Any]:
        offered = [tool["function"] for tool in body.get("tools") or [] if tool.get("type") == "function"]
        return {tool["name"]: tool.get("parameters", {}) for tool in offered}

    def stream(self, answer: Answer, model: str, hold: Hold) -> Iterator[bytes]:
        identity = {"id": f"chatcmpl-{next(_numbers)}", "created": 1, "model": model, "object": "chat.completion.chunk"}

        def chunk(delta: Body, finish: str | None = None) -> bytes:
            return _event({**identity, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        yield chunk({"role": "assistant", "content": ""})
        for piece in _pieces(answer.text):
            yield chunk({"content": piece})
        hold()
        for n, call in enumerate(answer.calls):
            yield chunk({"tool_calls": [{"index": n, **self._call(call)}]})
        yield chunk({}, self._finish(answer))
        yield _event({**identity, "choices": [], "usage": self._usage(answer)})
        yield _event("[DONE]")

    def whole(self, answer: Answer, model: str) -> Body:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if answer.calls:
            message["tool_calls"] = [self._call(call) for call in answer.calls]
        return {
            "id": f"chatcmpl-{next(_numbers)}",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": self._finish(answer)}],
            "usage": self._usage(answer),
        }

    def error(self, status: int, message: str) -> Body:
        return {"error": {"message": message, "type": "error", "code": str(status), "param": None}}

    def _call(self, call: ToolUse) -> Body:
        function = {"name": call.name, "arguments": json.dumps(call.arguments)}
        return {"id": call.id, "type": "function", "function": function}

    def _finish(self, answer: Answer) -> str:
        return "tool_calls" if answer.calls else "stop"

    def _usage(self, answer: Answer) -> Body:
        return {
            "prompt_tokens": answer.input_tokens,
            "completion_tokens": answer.output_tokens,
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }


class Messages:
    """Anthropic messages."""

    def tools(self, body: Body) -> dict[str, Any]:
        return {
            tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools") or [] if "input_schema" in tool
        }

    def stream(self, answer: Answer, model: str, hold: Hold) -> Iterator[bytes]:
        def say(kind: str, **fields: Any) -> bytes:
            return _event({"type": kind, **fields}, kind)

        empty = Answer("", (), answer.input_tokens, 1)
        yield say("message_start", message={**self.whole(empty, model), "content": [], "stop_reason": None})
        number = 0
        if answer.text:
            yield say("content_block_start", index=0, content_block={"type": "text", "text": ""})
            for piece in _pieces(answer.text):
                yield say("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
            hold()
            yield say("content_block_stop", index=0)
            number = 1
        else:
            hold()
        for n, call in enumerate(answer.calls, number):
            yield say("content_block_start", index=n, content_block={**self._call(call), "input": {}})
            written = json.dumps(call.arguments)
            yield say("content_block_delta", index=n, delta={"type": "input_json_delta", "partial_json": written})
            yield say("content_block_stop", index=n)
        stopped = {"stop_reason": self._finish(answer), "stop_sequence": None}
        yield say("message_delta", delta=stopped, usage={"output_tokens": answer.output_tokens})
        yield say("message_stop")

    def whole(self, answer: Answer, model: str) -> Body:
        content: list[Body] = [{"type": "text", "text": answer.text}] if answer.text else []
        return {
            "id": f"msg_{next(_numbers)}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [*content, *(self._call(call) for call in answer.calls)],
            "stop_reason": self._finish(answer),
            "stop_sequence": None,
            "usage": {
                "input_tokens": answer.input_tokens,
                "output_tokens": answer.output_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
            },
        }

    def error(self, status: int, message: str) -> Body:
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}

    def _call(self, call: ToolUse) -> Body:
        return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}

    def _finish(self, answer: Answer) -> str:
        return "tool_use" if answer.calls else "end_turn"


class Responses:
    """OpenAI responses."""

    def tools(self, body: Body) -> dict[str, Any]:
        offered = [tool for tool in body.get("tools") or [] if tool.get("type") == "function"]
        return {tool["name"]: tool.get("parameters", {}) for tool in offered}

    def stream(self, answer: Answer, model: str, hold: Hold) -> Iterator[bytes]:
        sequence = itertools.count()

        def say(kind: str, **fields: Any) -> bytes:
            return _event({"type": kind, "sequence_number": next(sequence), **fields}, kind)

        done = self.whole(answer, model)
        yield say("response.created", response={**done, "status": "in_progress", "output": [], "usage": None})
        for n, item in enumerate(done["output"]):
            draft = {**item, "status": "in_progress"}
            draft |= {"content": []} if item["type"] == "message" else {"arguments": ""}
            yield say("response.output_item.added", output_index=n, item=draft)
            place = {"item_id": item["id"], "output_index": n}
            if item["type"] == "message":
                part = {"type": "output_text", "text": "", "annotations": []}
                yield say("response.content_part.added", **place, content_index=0, part=part)
                for piece in _pieces(answer.text):
                    yield say("response.output_text.delta", **place, content_index=0, delta=piece)
                hold()
                yield say("response.output_text.done", **place, content_index=0, text=answer.text)
                yield say("response.content_part.done", **place, content_index=0, part=item["content"][0])
            else:
                yield say("response.function_call_arguments.delta", **place, delta=item["arguments"])
                yield say("response.function_call_arguments.done", **place, arguments=item["arguments"])
            yield say("response.output_item.done", output_index=n, item=item)
        if not answer.text:
            hold()
        yield say("response.completed", response=done)

    def whole(self, answer: Answer, model: str) -> Body:
        output: list[Body] = []
        if answer.text:
            part = {"type": "output_text", "text": answer.text, "annotations": []}
            message = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
            output.append({**message, "id": f"msg_{next(_numbers)}"})
        for call in answer.calls:
            said = {"name": call.name, "call_id": call.id, "arguments": json.dumps(call.arguments)}
            output.append({"type": "function_call", "id": f"fc_{next(_numbers)}", "status": "completed", **said})
        return {
            "id": f"resp_{next(_numbers)}",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": model,
            "output": output,
            "usage": {
                "input_tokens": answer.input_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": answer.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": answer.input_tokens + answer.output_tokens,
            },
        }

    def error(self, status: int, message: str) -> Body:
        return Chat().error(status, message)


DIALECTS: Mapping[str, Dialect] = {
    "/chat/completions": Chat(),
    "/messages": Messages(),
    "/responses": Responses(),
}
