"""The scripted agent: answers the client, and plays one list of actions per prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.agents.scripted.actions import Failed, Turn
from holdfast.agents.scripted.line import Gone, Line, Message
from holdfast.agents.scripted.sessions import Session, Sessions

USAGE = "usage: python -m holdfast.agents.scripted SCRIPT"
_AUTH_REQUIRED = -32000
_INVALID_PARAMS = -32602
_METHOD_NOT_FOUND = -32601


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message}


def main(arguments: Sequence[str]) -> None:
    """Serves until the client closes the line."""
    if len(arguments) != 1:
        raise SystemExit(USAGE)
    script = read_script(Path(arguments[0]))
    try:
        Agent(script, Line()).serve()
    except Gone:
        return


def read_script(path: Path) -> Mapping[str, Any]:
    """Gives the script in a file. Exits with a message if it cannot be one."""
    try:
        text = path.read_text()
        if path.suffix == ".json":
            script = json.loads(text)
        else:
            from ruamel.yaml import YAML  # it takes longer to import than all the rest

            script = YAML(typ="safe", pure=True).load(text)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: {error}") from None
    if not isinstance(script, dict):
        raise SystemExit(f"{path}: a script is a mapping with `agent`, `start` and `turns`")
    return script


class Agent:
    """One connection with one client."""

    def __init__(self, script: Mapping[str, Any], line: Line) -> None:
        self._script = script
        self._about: Mapping[str, Any] = {"load": True, "fork": True, "list": True, **(script.get("agent") or {})}
        self._line = line
        self._sessions = Sessions()
        self._open: dict[str, Session] = {}
        self._logged_in = self._about.get("auth", "none") == "none"

    def serve(self) -> None:
        """Answers requests in turn. Raises `Gone` when the client has left."""
        Turn(self._line, Session("", str(Path.cwd())), "").play(self._script.get("start") or [])
        while True:
            message = self._line.next()
            method, params = message.get("method"), message.get("params") or {}
            if "id" not in message or method is None or method in self._about.get("mute", ()):
                continue
            try:
                self._line.send({"id": message["id"], "result": self._answer(method, params)})
            except Refusal as refusal:
                self._line.send({"id": message["id"], "error": refusal.error})
            except Failed as failed:
                self._line.send({"id": message["id"], "error": failed.error})

    def _answer(self, method: str, params: Message) -> Mapping[str, Any]:
        match method:
            case "initialize":
                return self._initialize()
            case "authenticate":
                if self._about.get("auth") == "never":
                    raise Refusal(_AUTH_REQUIRED, "Authentication required: the login was refused")
                self._logged_in = True
                return {}
            case "session/new":
                return self._opened(self._sessions.new(self._place(params)), params)
            case "session/load" | "session/resume" | "session/fork" if self._about.get(method.partition("/")[2]):
                return self._again(method, params)
            case "session/list" if self._about["list"]:
                return {"sessions": [{"sessionId": each.id, "cwd": each.cwd} for each in self._sessions.all()]}
            case "session/set_mode":
                self._session(params).mode = self._among("modes", params.get("modeId"))
                return {}
            case "session/set_model":
                self._session(params).model = self._among("models", params.get("modelId"))
                return {}
            case "session/prompt":
                return self._prompt(params)
            case _:
                raise Refusal(_METHOD_NOT_FOUND, f"there is no method {method}")

    def _initialize(self) -> Mapping[str, Any]:
        session = {name: {} for name in ("resume", "fork", "list") if self._about.get(name)}
        methods = [] if self._about.get("auth", "none") == "none" else [{"id": "code-word", "name": "Code word"}]
        return {
            "protocolVersion": self._about.get("protocol", 1),
            "agentInfo": {"name": self._about.get("name", "scripted"), "version": self._about.get("version", "1")},
            "agentCapabilities": {"loadSession": bool(self._about["load"]), "sessionCapabilities": session},
            "authMethods": methods,
        }

    def _again(self, method: str, params: Message) -> Mapping[str, Any]:
        cwd = self._place(params)
        session = self._sessions.find(str(params.get("sessionId")))
        if session is None:
            raise Refusal(_INVALID_PARAMS, f"there is no session {params.get('sessionId')}")
        if method == "session/fork":
            return self._opened(self._sessions.new(cwd, session), params)
        if method == "session/load":
            turn = Turn(self._line, session, "")
            for who, text in session.said:
                kind = "user_message_chunk" if who == "user" else "agent_message_chunk"
                turn.update(kind, content={"type": "text", "text": text})
        opened = dict(self._opened(session, params))
        opened.pop("sessionId")
        return opened

    def _opened(self, session: Session, params: Message) -> Mapping[str, Any]:
        self._open[session.id] = session
        session.servers = list(params.get("mcpServers") or [])
        modes, models = self._about.get("modes") or [], self._about.get("models") or []
        session.mode = session.mode or (modes[0] if modes else "")
        session.model = session.model or (models[0] if models else "")
        answer: dict[str, Any] = {"sessionId": session.id}
        if modes:
            listed = [{"id": mode, "name": mode} for mode in modes]
            answer["modes"] = {"currentModeId": session.mode, "availableModes": listed}
        if models:
            listed = [{"modelId": model, "name": model} for model in models]
            answer["models"] = {"currentModelId": session.model, "availableModels": listed}
        return answer

    def _prompt(self, params: Message) -> Mapping[str, Any]:
        session = self._session(params)
        prompt = "\n".join(block.get("text", "") for block in params.get("prompt", ()))
        turn = Turn(self._line, session, prompt)
        session.said.append(["user", prompt])
        self._sessions.save(session)
        turns = self._script.get("turns") or [[{"say": "{prompt}"}]]
        answer = turn.play(turns[min(session.turns, len(turns) - 1)])
        session.turns += 1
        self._sessions.save(session)
        return answer

    def _place(self, params: Message) -> str:
        if not self._logged_in:
            raise Refusal(_AUTH_REQUIRED, "Authentication required")
        return str(params.get("cwd"))

    def _session(self, params: Message) -> Session:
        session = self._open.get(str(params.get("sessionId")))
        if session is None:
            raise Refusal(_INVALID_PARAMS, f"there is no open session {params.get('sessionId')}")
        return session

    def _among(self, what: str, value: object) -> str:
        if value not in (self._about.get(what) or ()):
            raise Refusal(_INVALID_PARAMS, f"{value!r} is not among the {what}")
        return str(value)
