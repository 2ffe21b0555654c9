"""What a scripted agent can do in a turn: one method per action, named as in the script."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.agents.scripted.line import Line, Message
from holdfast.agents.scripted.sessions import Session

Action = Mapping[str, Any]
_ERRORS = {
    "auth": {"code": -32000, "message": "Authentication required"},
    "rate_limit": {"code": -32603, "message": "429 Too Many Requests: rate limit exceeded"},
    "overloaded": {"code": 529, "message": "Overloaded"},
}
_OPTIONS = (
    ("allow", "Allow", "allow_once"),
    ("always", "Always allow", "allow_always"),
    ("reject", "Reject", "reject_once"),
)
_POLL_SECONDS = 0.02


class Failed(Exception):
    """The turn ends with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


class _Over(Exception):
    """The turn ends here, with this stop reason."""


class _Refused(Exception):
    """The client answered with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.message = str(error.get("message"))


class Turn:
    """One turn of a session: plays actions, and remembers what they found for the texts of those after them."""

    def __init__(self, line: Line, session: Session, prompt: str) -> None:
        self._line = line
        self._session = session
        self._found = {"prompt": prompt, "history": session.history(), "read": "", "output": "", "answer": ""}
        self._calls = 0
        self._cancelled = False
        self._usage: Mapping[str, Any] | None = None

    def play(self, actions: Sequence[Action]) -> Mapping[str, Any]:
        """Plays the actions; gives the answer to the prompt. Raises `Failed`, and `Gone` when the client has left."""
        reason = "end_turn"
        try:
            self._play(actions)
        except _Over as over:
            reason = str(over)
        return {"stopReason": reason} if self._usage is None else {"stopReason": reason, "usage": self._usage}

    def update(self, name: str, /, **fields: object) -> None:
        """Sends one `session/update`."""
        params = {"sessionId": self._session.id, "update": {"sessionUpdate": name, **fields}}
        self._line.send({"method": "session/update", "params": params})

    # -- playing -----------------------------------------------------------------------------------------------------

    def _play(self, actions: Sequence[Action]) -> None:
        for action in actions:
            once = action.get("once")
            if once is not None:
                marker = Path(self._session.cwd, self._fill(once))
                if marker.exists():
                    continue
                marker.touch()
            for name, value in action.items():
                if name != "once":
                    act: Callable[[Any], None] | None = getattr(self, f"_do_{name}", None)
                    if act is None:
                        raise Failed({"code": -32603, "message": f"the script has an unknown action: {name}"})
                    act(value)
            self._heed()

    def _heed(self) -> None:
        self._line.idle(0.0, self._interrupted, lambda: self._cancelled)
        if self._cancelled:
            raise _Over("cancelled")

    def _interrupted(self, message: Message) -> bool:
        if message.get("method") == "session/cancel":
            self._cancelled = True
            return True
        return False

    def _wait(self, seconds: float | None, over: Callable[[], bool] = lambda: False) -> None:
        self._line.idle(seconds, self._interrupted, lambda: self._cancelled or over())
        if self._cancelled:
            raise _Over("cancelled")

    def _fill(self, text: object) -> str:
        filled = str(text)
        session = self._session
        about = {"turn": session.turns, "session": session.id, "cwd": session.cwd}
        for name, value in {**self._found, **about, "mode": session.mode, "model": session.model}.items():
            filled = filled.replace("{" + name + "}", str(value))
        return filled

    def _path(self, value: object) -> str:
        return os.path.join(self._session.cwd, self._fill(value))

    def _ask_client(self, method: str, **params: object) -> Message:
        answer = self._line.call(method, {"sessionId": self._session.id, **params}, self._interrupted)
        if "error" in answer:
            raise _Refused(answer["error"])
        return answer.get("result") or {}

    def _call(self, title: str, kind: str, act: Callable[[str], Mapping[str, Any]], **fields: object) -> None:
        """Tells a tool call as it begins and ends; what `act` gives is told with its end."""
        self._calls += 1
        identity = f"call-{self._session.turns}-{self._calls}"
        self.update("tool_call", toolCallId=identity, title=title, kind=kind, status="in_progress", **fields)
        try:
            told = {"status": "completed", **act(identity)}
        except _Refused as refused:
            self._found["output"] = refused.message
            told = {"status": "failed", "content": _text(refused.message)}
        except OSError as error:
            self._found["output"] = str(error)
            told = {"status": "failed", "content": _text(str(error))}
        self.update("tool_call_update", toolCallId=identity, **told)

    # -- talk --------------------------------------------------------------------------------------------------------

    def _do_say(self, value: Any) -> None:
        text = self._fill(value)
        self._session.said.append(["agent", text])
        self.update("agent_message_chunk", content={"type": "text", "text": text})

    def _do_think(self, value: Any) -> None:
        self.update("agent_thought_chunk", content={"type": "text", "text": self._fill(value)})

    def _do_plan(self, value: Any) -> None:
        entries = [{"content": self._fill(each), "priority": "medium", "status": "pending"} for each in value]
        self.update("plan", entries=entries)

    def _do_usage(self, value: Any) -> None:
        """`{used, size, cost}` is told at once, `{input, output, cached, thought}` with the turn's end."""
        if "used" in value:
            cost = {"cost": {"amount": value["cost"], "currency": "USD"}} if "cost" in value else {}
            self.update("usage_update", used=value["used"], size=value.get("size", 200_000), **cost)
        if "input" in value:
            self._usage = _tokens(value)

    def _do_spend(self, value: Any) -> None:
        """`{input, output, cached, thought}`: the tokens of one answer of its model, told at once as Qwen Code does."""
        empty = {"type": "text", "text": ""}
        self.update("agent_message_chunk", content=empty, _meta={"usage": _tokens(value)})

    def _do_mode(self, value: Any) -> None:
        self._session.mode = value
        self.update("current_mode_update", currentModeId=value)

    def _do_ask(self, value: Any) -> None:
        """`{title, kind, path, allow, reject}`: asks permission and plays the actions under the answer."""
        identity = f"ask-{self._session.turns}-{self._calls}"
        call = {"toolCallId": identity, "title": self._fill(value["title"]), "kind": value.get("kind", "execute")}
        if "path" in value:
            call["locations"] = [{"path": self._path(value["path"])}]
        if "input" in value:
            call["rawInput"] = value["input"]
        options = [{"optionId": identity, "name": name, "kind": kind} for identity, name, kind in _OPTIONS]
        outcome = self._ask_client("session/request_permission", toolCall=call, options=options).get("outcome", {})
        self._found["answer"] = outcome.get("optionId", "cancelled")
        branch = "allow" if self._found["answer"] in ("allow", "always") else self._found["answer"]
        self._play(value.get(branch) or [])

    # -- work --------------------------------------------------------------------------------------------------------

    def _do_read(self, value: Any) -> None:
        """A path, or `{path, line, limit, client}`; by the client's file system if `client`."""
        asked = value if isinstance(value, dict) else {"path": value}
        path = self._path(asked["path"])

        def act(_: str) -> Mapping[str, Any]:
            if asked.get("client"):
                window = {name: asked[name] for name in ("line", "limit") if name in asked}
                self._found["read"] = self._ask_client("fs/read_text_file", path=path, **window)["content"]
            else:
                self._found["read"] = Path(path).read_text()
            self._found["output"] = self._found["read"]
            return {"content": _text(self._found["read"])}

        self._call(f"Read {asked['path']}", "read", act, locations=[{"path": path}])

    def _do_write(self, value: Any) -> None:
        """`{path, text, client}`."""
        self._change(value, lambda _: self._fill(value["text"]))

    def _do_append(self, value: Any) -> None:
        """`{path, text}`: unlike the others it shows when it is done twice."""
        self._change(value, lambda old: (old or "") + self._fill(value["text"]))

    def _do_edit(self, value: Any) -> None:
        """`{path, old, new, client}`."""
        self._change(value, lambda text: (text or "").replace(self._fill(value["old"]), self._fill(value["new"])))

    def _change(self, value: Action, change: Callable[[str | None], str]) -> None:
        path = self._path(value["path"])

        def act(_: str) -> Mapping[str, Any]:
            old = Path(path).read_text() if os.path.isfile(path) else None
            new = change(old)
            if value.get("client"):
                self._ask_client("fs/write_text_file", path=path, content=new)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                Path(path).write_text(new)
            return {"content": [{"type": "diff", "path": path, "oldText": old, "newText": new}]}

        self._call(f"Edit {value['path']}", "edit", act, locations=[{"path": path}])

    def _do_run(self, value: Any) -> None:
        """A shell command, or `{command, terminal, cwd}`; in a terminal of the client if `terminal`."""
        asked = value if isinstance(value, dict) else {"command": value}
        command = self._fill(asked["command"])
        act = self._in_terminal if asked.get("terminal") else self._in_shell
        self._call(command, "execute", lambda identity: act(identity, command, asked), rawInput={"command": command})

    def _in_shell(self, _: str, command: str, __: Action) -> Mapping[str, Any]:
        import subprocess  # the agent starts faster without it

        with os.fdopen(os.memfd_create("output"), "r+b") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=self._session.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            while process.poll() is None and not self._cancelled:
                self._line.idle(_POLL_SECONDS, self._interrupted, lambda: self._cancelled)
            if self._cancelled:
                process.kill()
                process.wait()
                raise _Over("cancelled")
            output.seek(0)
            self._found["output"] = output.read().decode(errors="replace")
        status = "completed" if process.returncode == 0 else "failed"
        return {"status": status, "content": _text(self._found["output"]), "rawOutput": {"code": process.returncode}}

    def _in_terminal(self, identity: str, command: str, asked: Action) -> Mapping[str, Any]:
        place = {"cwd": self._path(asked["cwd"])} if "cwd" in asked else {}
        terminal = self._ask_client("terminal/create", command="/bin/sh", args=["-c", command], **place)["terminalId"]
        content = [{"type": "terminal", "terminalId": terminal}]
        self.update("tool_call_update", toolCallId=identity, content=content)
        ended = self._ask_client("terminal/wait_for_exit", terminalId=terminal)
        self._found["output"] = self._ask_client("terminal/output", terminalId=terminal)["output"]
        self._ask_client("terminal/release", terminalId=terminal)
        return {"status": "completed" if ended.get("exitCode") == 0 else "failed"}

    def _do_mcp(self, value: Any) -> None:
        """`{tool, arguments, server, again}`: calls a tool of an MCP server that the client named (the first one).

        With `again`, as long as its answer has the text `again` in it: what waits is asked for anew.
        """
        arguments = {
            name: self._fill(each) if isinstance(each, str) else each
            for name, each in (value.get("arguments") or {}).items()
        }

        def act(_: str) -> Mapping[str, Any]:
            from holdfast.agents.scripted.tools import ToolServer  # the agent starts faster without it

            with ToolServer(self._server(value.get("server")), self._session.cwd) as server:
                while True:
                    server.call(value["tool"], arguments)
                    while not server.answered():
                        self._wait(_POLL_SECONDS)
                    if "error" in server.answer:
                        raise _Refused(server.answer["error"])
                    result = server.answer["result"]
                    self._found["output"] = "".join(block.get("text", "") for block in result.get("content", ()))
                    if not value.get("again") or str(value["again"]) not in self._found["output"]:
                        status = "failed" if result.get("isError") else "completed"
                        return {"status": status, "content": _text(self._found["output"])}

        self._call(str(value["tool"]), "other", act, rawInput=arguments)

    def _server(self, name: str | None) -> Mapping[str, Any]:
        for each in self._session.servers:
            if name in (None, each.get("name")):
                return each
        raise _Refused({"message": "there is no such MCP server"})

    # -- misdeeds ----------------------------------------------------------------------------------------------------

    def _do_sleep(self, value: Any) -> None:
        self._wait(float(value))

    def _do_hang(self, value: Any) -> None:
        """Waits for ever; a cancel ends it. With the value `deaf` not even that, nor SIGTERM."""
        if value == "deaf":
            import signal  # the agent starts faster without it

            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                signal.pause()
        self._wait(None)

    def _do_await(self, value: Any) -> None:
        """Waits until a file is there."""
        while not os.path.exists(self._path(value)):
            self._wait(_POLL_SECONDS)

    def _do_stop(self, value: Any) -> None:
        raise _Over(str(value))

    def _do_fail(self, value: Any) -> None:
        """`auth`, `rate_limit`, `overloaded`, or the text of another error."""
        raise Failed(_ERRORS.get(value, {"code": -32603, "message": str(value)}))

    def _do_flood(self, value: Any) -> None:
        for number in range(int(value)):
            self.update("agent_message_chunk", content={"type": "text", "text": f"{number} "})

    def _do_garbage(self, value: Any) -> None:
        for number in range(int(value)):
            self._line.write(f"this is no message {number}\n".encode())

    def _do_long_line(self, value: Any) -> None:
        self._line.write(b'{"jsonrpc":"2.0","method":"x","params":{"text":"')
        for _ in range(int(value) >> 16):
            self._line.write(b"x" * (1 << 16))
        self._line.write(b'"}}\n')

    def _do_unknown_update(self, value: Any) -> None:
        self.update(str(value), detail="something new")

    def _do_send(self, value: Any) -> None:
        """Any message, as it is."""
        self._line.send(value)

    def _do_stderr(self, value: Any) -> None:
        sys.stderr.write(self._fill(value) + "\n")
        sys.stderr.flush()

    def _do_crash(self, value: Any) -> None:
        """`{code}` or `{signal}`: this process ends here."""
        asked = value if isinstance(value, dict) else {}
        if "signal" in asked:
            os.kill(os.getpid(), int(asked["signal"]))
        os._exit(int(asked.get("code", 1)))

    def _do_leave_children(self, value: Any) -> None:
        """Leaves so many processes in sessions of their own behind."""
        import subprocess  # the agent starts faster without it

        for _ in range(int(value)):
            null = subprocess.DEVNULL
            subprocess.Popen(["sleep", "1000"], start_new_session=True, stdin=null, stdout=null, stderr=null)


def _tokens(value: Action) -> Mapping[str, int]:
    return {
        "inputTokens": value["input"],
        "outputTokens": value.get("output", 0),
        "cachedReadTokens": value.get("cached", 0),
        "thoughtTokens": value.get("thought", 0),
        "totalTokens": sum(value.get(name, 0) for name in ("input", "output", "cached", "thought")),
    }


def _text(text: str) -> list[Mapping[str, Any]]:
    return [{"type": "content", "content": {"type": "text", "text": text}}]
