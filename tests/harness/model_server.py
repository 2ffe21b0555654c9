"""A model on loopback that says what a script tells it to: real agents run against it without a key or the internet.

    with model_server(Turn("I write it.", write("a.txt", "one\\n")), Turn("Done.")) as model:
        ...  # start an agent whose provider is `model.url`
        model.wait_for_turn(2)

Each request that offers tools takes the next turn of the script. Requests without tools (titles, summaries, probes)
are answered with a fixed text and take none. All of them are in `model.requests`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.harness.model_dialects import DIALECTS, Answer, Body, Dialect, ToolUse

PATIENCE_SECONDS = 240.0
SIDE_ANSWER = "A scripted title"
AFTER_THE_SCRIPT = "The script has ended."


@dataclass(frozen=True)
class Call:
    """A tool call in words that hold for every agent; the server says it in those of the agent that asks.

    `tool` is write, edit, read or run. Which tool that is, and what its arguments are called, follows from the tools
    that the request offers; required arguments that the script does not know are filled in.
    """

    tool: str
    arguments: Mapping[str, str]


def write(path: str, content: str) -> Call:
    return Call("write", {"path": path, "content": content})


def edit(path: str, old: str, new: str) -> Call:
    return Call("edit", {"path": path, "old": old, "new": new})


def read(path: str) -> Call:
    return Call("read", {"path": path})


def run(command: str) -> Call:
    return Call("run", {"command": command})


@dataclass(frozen=True)
class Turn:
    """One answer of the model: a text, then a tool call; or an HTTP error.

    With `hang`, it stops after the text and goes on when the script is released (`ModelServer.release`).
    """

    text: str = ""
    call: Call | None = None
    hang: bool = False
    delay_seconds: float = 0.0
    error: int = 0
    input_tokens: int = 1000
    output_tokens: int = 50


@dataclass(frozen=True)
class Asked:
    """One request as it came. `turn` is the number of the script's turn that answered it, from 1; 0 = none did."""

    path: str
    body: Body
    authorization: str
    turn: int

    @property
    def text(self) -> str:
        return json.dumps(self.body)


@dataclass
class ModelServer:
    """The running server: where it is, what it was asked, and the rest of its script."""

    url: str
    script: list[Turn]
    requests: list[Asked] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _released: threading.Event = field(default_factory=threading.Event)
    _turns: int = 0

    def add(self, *turns: Turn) -> None:
        with self._changed:
            self.script.extend(turns)

    def release(self) -> None:
        """Lets every turn that hangs go on, now and from now on."""
        self._released.set()

    def wait_for_turn(self, number: int) -> Asked:
        """Waits until the turn of that number (from 1) has been asked for, and gives its request."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._turns >= number, PATIENCE_SECONDS):
                paths = [asked.path for asked in self.requests]
                raise AssertionError(f"turn {number} was never asked for, only {self._turns} of them: {paths}")
            return next(asked for asked in self.requests if asked.turn == number)

    def take(self, path: str, body: Body, authorization: str, *, is_turn: bool) -> Turn:
        """Records a request and gives the turn that answers it."""
        with self._changed:
            self._turns += is_turn
            self.requests.append(Asked(path, body, authorization, self._turns if is_turn else 0))
            self._changed.notify_all()
            if not is_turn:
                return Turn(SIDE_ANSWER)
            return self.script.pop(0) if self.script else Turn(AFTER_THE_SCRIPT)

    def hold(self) -> None:
        self._released.wait(PATIENCE_SECONDS)

    def pause(self, seconds: float) -> None:
        self._released.wait(seconds)


@contextmanager
def model_server(*script: Turn) -> Iterator[ModelServer]:
    """Serves the script on loopback for the block; its `url` ends before `/v1`."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Request)
    http.daemon_threads = True
    model = http.model = ModelServer(f"http://127.0.0.1:{http.server_address[1]}", list(script))  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, name="model server", daemon=True)
    thread.start()
    try:
        yield model
    finally:
        model.release()
        http.shutdown()
        http.server_close()
        thread.join()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def model(self) -> ModelServer:
        return self.server.model  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self._document(200, {"object": "list", "data": [{"id": "scripted", "object": "model", "owned_by": "tests"}]})

    def do_HEAD(self) -> None:
        self._document(200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        path = self.path.partition("?")[0]
        if path.endswith("/count_tokens"):
            self._document(200, {"input_tokens": 1000})
            return
        dialect = next((spoken for end, spoken in DIALECTS.items() if path.endswith(end)), None)
        if dialect is None:
            self._document(404, {"error": {"message": f"no model is at {path}"}})
            return
        authorization = self.headers.get("Authorization") or self.headers.get("x-api-key", "")
        tools = dialect.tools(body)
        turn = self.model.take(path, body, authorization, is_turn=bool(tools))
        self.model.pause(turn.delay_seconds)
        if turn.error:
            self._document(turn.error, dialect.error(turn.error, f"scripted error {turn.error}"))
        else:
            self._answer(dialect, body, _answer(turn, tools, len(self.model.requests)), hang=turn.hang)

    def _answer(self, dialect: Dialect, body: Body, answer: Answer, *, hang: bool) -> None:
        hold = self.model.hold if hang else lambda: None
        model = body.get("model", "scripted")
        if not body.get("stream"):
            hold()
            self._document(200, dialect.whole(answer, model))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in dialect.stream(answer, model, hold):
            self.wfile.write(piece)
            self.wfile.flush()
        self.close_connection = True

    def _document(self, status: int, value: Any) -> None:
        written = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(written)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # an agent that was killed does not wait for its answer
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


# -- one script, every agent's tools ---------------------------------------------------------------------------------

_TOOLS = {
    "write": ("write", "write_file", "Write"),
    "edit": ("edit", "replace", "Edit"),
    "read": ("read", "read_file", "Read"),
    "run": ("bash", "run_shell_command", "Bash", "shell", "exec_command", "shell_command"),
}
_ARGUMENTS = {
    "path": ("filePath", "file_path", "absolute_path", "path"),
    "content": ("content",),
    "old": ("oldString", "old_string"),
    "new": ("newString", "new_string"),
    "command": ("command", "cmd"),
}
_FILLERS = {"string": "as the script says", "boolean": False, "number": 1, "integer": 1, "array": [], "object": {}}


def _answer(turn: Turn, tools: Mapping[str, Any], number: int) -> Answer:
    calls = (_tool_use(turn.call, tools, f"call_{number}"),) if turn.call else ()
    return Answer(turn.text, calls, turn.input_tokens, turn.output_tokens)


def _tool_use(call: Call, tools: Mapping[str, Any], identity: str) -> ToolUse:
    """Says a call in the words of the tools that are offered."""
    name = next((name for name in _TOOLS[call.tool] if name in tools), None)
    if name is None:
        raise AssertionError(f"no tool to {call.tool} is offered, only {', '.join(tools)}")
    properties = tools[name].get("properties", {})
    said: dict[str, Any] = {}
    for ours, value in call.arguments.items():
        theirs = next(each for each in _ARGUMENTS[ours] if each in properties)
        said[theirs] = ["bash", "-c", value] if properties[theirs].get("type") == "array" else value
    for required in tools[name].get("required", []):
        if required not in said:
            schema = properties.get(required, {})
            said[required] = schema["enum"][0] if "enum" in schema else _FILLERS[schema.get("type", "string")]
    return ToolUse(identity, name, said)
