"""JSON-RPC as agents speak it over stdio: one message per line. What is not a message is told apart, never raised."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
AUTH_REQUIRED = -32000
RESOURCE_NOT_FOUND = -32002

_RATE_CODES = (429, 529)
_RATE_WORDS = re.compile(
    r"rate.?limit|too many requests|overloaded|usage limit|resource.?exhausted|\b(429|529)\b", re.IGNORECASE
)
_LOGIN_WORDS = re.compile(
    r"auth(entication|orization)? (is )?required|not (logged|signed) in|log ?in required|unauthori[sz]ed"
    r"|invalid api key|\b401\b",
    re.IGNORECASE,
)
# What JSON can hold and a database cannot: NUL, and halves of UTF-16 pairs.
_SUSPECT = re.compile(r"\\u(0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_DEPTH_MAX = 40

Id = int | str


@dataclass(frozen=True, slots=True)
class RpcError:
    """Why a request failed, as the answer says it."""

    code: int
    message: str
    data: Any = None

    @property
    def rate_limited(self) -> bool:
        """Whether waiting helps: the model's provider is overloaded or wants fewer requests."""
        detail = self.data if isinstance(self.data, dict) else {}
        codes = (self.code, *(detail.get(name) for name in ("status", "statusCode", "code")))
        return any(code in _RATE_CODES for code in codes) or bool(_RATE_WORDS.search(self.told))

    @property
    def wants_login(self) -> bool:
        """Whether a person has to log the agent in."""
        return self.code == AUTH_REQUIRED or bool(_LOGIN_WORDS.search(self.told))

    @property
    def told(self) -> str:
        """All that it says, in one line for people."""
        data = self.data
        detail = data if isinstance(data, str) else json.dumps(data)[:500] if data else ""
        return f"{self.message} ({detail})" if detail and detail not in self.message else self.message


@dataclass(frozen=True, slots=True)
class Request:
    """A message that wants an answer."""

    id: Id
    method: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Notification:
    """A message that wants none."""

    method: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request: a result, or an error."""

    id: Id | None
    result: Any
    error: RpcError | None


Message = Request | Notification | Answer


def parse(line: str) -> Message | None:
    """Gives the message of a line, None if it is none. Strings come without what no database takes."""
    try:
        value = json.loads(line, parse_constant=_refuse, parse_float=_finite)
        if _SUSPECT.search(line):
            value = _storable(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    method, params = value.get("method"), value.get("params")
    identity = _identity(value.get("id"))
    if isinstance(method, str):
        params = params if isinstance(params, dict) else {}
        if "id" not in value:
            return Notification(method, params)
        return Request(identity, method, params) if identity is not None else None
    if "error" in value and value["error"] is not None:
        return Answer(identity, None, _error(value["error"]))
    return Answer(identity, value["result"], None) if identity is not None and "result" in value else None


def request(identity: Id, method: str, params: Mapping[str, Any]) -> str:
    """Gives the line of a request."""
    return _line({"id": identity, "method": method, "params": params})


def notification(method: str, params: Mapping[str, Any]) -> str:
    """Gives the line of a notification."""
    return _line({"method": method, "params": params})


def answer(identity: Id, result: Mapping[str, Any] | RpcError) -> str:
    """Gives the line of an answer."""
    if isinstance(result, RpcError):
        return _line({"id": identity, "error": {"code": result.code, "message": result.message}})
    return _line({"id": identity, "result": result})


def kept(value: Any, depth: int = 0) -> Any:
    """Gives JSON that is safe to carry on: nothing nested deeper than forty levels."""
    if isinstance(value, dict):
        return {key: kept(item, depth + 1) for key, item in value.items()} if depth < _DEPTH_MAX else "…"
    if isinstance(value, list):
        return [kept(item, depth + 1) for item in value] if depth < _DEPTH_MAX else "…"
    return value


class Lines:
    """Puts lines together from pieces, however they were cut."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.open_characters = 0

    def feed(self, text: str) -> list[str]:
        """Gives the lines that this piece ends, without their ends; empty ones are left out."""
        head, newline, rest = text.partition("\n")
        self._pieces.append(head)
        if not newline:
            self.open_characters += len(head)
            return []
        first = "".join(self._pieces)
        *middle, last = rest.split("\n")
        self._pieces = [last]
        self.open_characters = len(last)
        return [line for line in (first, *middle) if line.strip()]

    def forget(self) -> None:
        """Drops the unfinished line."""
        self._pieces = []
        self.open_characters = 0


def _line(message: Mapping[str, Any]) -> str:
    text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False, separators=(",", ":"))
    return _UNSTORABLE.sub("\ufffd", text) + "\n"


def _identity(value: Any) -> Id | None:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _error(value: Any) -> RpcError:
    fields = value if isinstance(value, dict) else {}
    code, message = fields.get("code"), fields.get("message")
    return RpcError(
        code if isinstance(code, int) else INTERNAL_ERROR,
        message if isinstance(message, str) else "the agent gave no reason",
        kept(fields.get("data")),
    )


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list) else value


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is out of range")
    return number
