"""The conversation with an agent as a fold over the journal of its run: pure, and the same whoever folds it when.

Both directions are in the journal, so what was asked, what was answered and what is still open follows from it alone.
Nothing is remembered elsewhere: a worker that dies in mid-turn is replaced by one that folds from record 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from acp import PROTOCOL_VERSION, schema
from pydantic import BaseModel, ValidationError

from holdfast.agents.acp import wire
from holdfast.agents.acp.flood import Bucket
from holdfast.agents.acp.terms import Capabilities, Choice, Fault, Limits
from holdfast.agents.acp.updates import permission_wanted, spent, terminals_of, translate, turn_usage
from holdfast.agents.journal import Record
from holdfast.agents.text import strip_control
from holdfast.domain.conversation import (
    Heard,
    Noted,
    PermissionWanted,
    Planned,
    Prompted,
    Spoke,
    TokenUsage,
    ToolUsed,
    TurnEnded,
    Update,
    UsageTold,
)

STDERR_CHARACTERS = 2000
_GARBAGE_SHOWN = 5
_TERMINALS_REMEMBERED = 64
_VERSION_CHARACTERS = 100
_REQUESTS: dict[str, type[BaseModel]] = {
    "session/request_permission": schema.RequestPermissionRequest,
    "fs/read_text_file": schema.ReadTextFileRequest,
    "fs/write_text_file": schema.WriteTextFileRequest,
    "terminal/create": schema.CreateTerminalRequest,
    "terminal/output": schema.TerminalOutputRequest,
    "terminal/wait_for_exit": schema.WaitForTerminalExitRequest,
    "terminal/kill": schema.KillTerminalRequest,
    "terminal/release": schema.ReleaseTerminalRequest,
}
_ANSWERS: dict[str, type[BaseModel]] = {
    "initialize": schema.InitializeResponse,
    "session/new": schema.NewSessionResponse,
    "session/load": schema.LoadSessionResponse,
    "session/resume": schema.ResumeSessionResponse,
    "session/fork": schema.ForkSessionResponse,
    "session/prompt": schema.PromptResponse,
}
OPENING_METHODS = ("session/new", "session/load", "session/resume", "session/fork")


@dataclass(frozen=True, slots=True)
class Asked:
    """An unanswered request of the agent. `problem`: what it is refused with; `number` counts the agent's requests."""

    number: int
    id: wire.Id
    method: str
    params: BaseModel | None
    problem: wire.RpcError | None = None
    permission: PermissionWanted | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """The open session. `offers` is the agent's answer as it came: modes, models and options."""

    id: str
    carried: bool
    offers: Mapping[str, Any]


class Dialogue:
    """Folds records into the state of the conversation, and hands out the updates of those above `after`, each once."""

    def __init__(self, after: int = 0, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.position = 0
        self.follower = ""
        self.capabilities: Capabilities | None = None
        self.session: Session | None = None
        self.authenticated = False
        self.refused: dict[str, wire.RpcError] = {}
        self.settled: set[str] = set()
        self.requests_sent = 0
        self.in_flight: wire.Request | None = None
        self.turns = 0
        self.turn_error: wire.RpcError | None = None
        self.last_turn: TurnEnded | None = None
        self.cancelled = False
        self.open: dict[int, Asked] = {}
        self.terminals: set[int] = set()
        self.usage: TokenUsage | None = None
        self.errors = ""
        self.fault: Fault | None = None
        self.end: Record | None = None
        self._after = after
        self._requests_heard = 0
        self._lines = wire.Lines()
        self._garbage = 0
        self._spent = TokenUsage()
        self._bucket = Bucket(self.limits.updates_per_second, self.limits.updates_burst)
        self._terminal_of_call: dict[str, str] = {}
        self._terminal_texts: dict[str, str] = {}
        self._told: list[Update] = []

    @property
    def in_turn(self) -> bool:
        """Whether a prompt is still to be answered."""
        return self.in_flight is not None and self.in_flight.method == "session/prompt"

    def fold(self, records: Sequence[Record]) -> list[Update]:
        """Takes the next records in; gives their updates, in order, those of records above `after` only."""
        self._told = []
        for record in records:
            self._take(record)
            self.position = record.n
        return self._told

    def _take(self, record: Record) -> None:
        match record.kind:
            case "stdout" if "after_gap" not in record.fields:
                self._hear(record)
            case "stdin":
                self._say(record)
            case "stderr":
                self.errors = (self.errors + record.text)[-STDERR_CHARACTERS:]
            case "client":
                self.follower = str(record.fields.get("name", ""))
            case "cut_line":
                self._lines.forget()
                self._fail(f"the agent sent a line of more than {record.fields['limit_bytes']} bytes")
            case "truncated":
                self._fail(f"the record of the session is full ({record.fields['limit_bytes']} bytes)")
            case "exit":
                self._flood_over(record)
                self.end = record
            case _:
                return

    # -- what we said ------------------------------------------------------------------------------------------------

    def _say(self, record: Record) -> None:
        match wire.parse(record.text):
            case wire.Request() as request:
                self.requests_sent += 1
                self.in_flight = request
                if request.method == "session/prompt":
                    self.turns += 1
                    self.turn_error = self.last_turn = None
                    self.cancelled = False
                    self._tell(Prompted(_heard(record), _prompt_text(request.params)))
            case wire.Notification(method="session/cancel"):
                self.cancelled = True
            case wire.Answer() as answer:
                asked = next((each for each in self.open.values() if each.id == answer.id), None)
                if asked is not None:
                    del self.open[asked.number]
                    self._answered(asked, answer)
            case _:
                return

    def _answered(self, asked: Asked, answer: wire.Answer) -> None:
        match asked.params:
            case schema.CreateTerminalRequest() if answer.error is None:
                self.terminals.add(asked.number)
            case schema.ReleaseTerminalRequest() if answer.error is None:
                self.terminals.discard(terminal_number(asked.params.terminal_id))
            case schema.TerminalOutputRequest() if answer.error is None:
                _remember(self._terminal_texts, asked.params.terminal_id, str(answer.result.get("output", "")))
            case _:
                return

    # -- what the agent said -----------------------------------------------------------------------------------------

    def _hear(self, record: Record) -> None:
        for line in self._lines.feed(record.text):
            match wire.parse(line):
                case wire.Notification(method="session/update") as message:
                    self._hear_update(record, message.params)
                case wire.Notification() as message:
                    self._tell_bounded(record, Noted(_heard(record), message.method, wire.kept(message.params)))
                case wire.Request() as message:
                    self._hear_request(record, message)
                case wire.Answer() as message if self.in_flight is not None and message.id == self.in_flight.id:
                    self._hear_answer(record, message)
                case _:
                    self._hear_garbage(record, line)
        if self._lines.open_characters > self.limits.line_bytes:
            self._lines.forget()
            self._fail(f"the agent sent a line of more than {self.limits.line_bytes} bytes")

    def _hear_update(self, record: Record, params: Mapping[str, Any]) -> None:
        update, session = params.get("update"), params.get("sessionId")
        if not isinstance(update, dict):
            self._tell_bounded(record, Noted(_heard(record), "invalid", {"update": wire.kept(params)}))
            return
        if self.session is not None and session != self.session.id:
            what = {"session": str(session)[:200], "kind": str(update.get("sessionUpdate"))[:200]}
            self._tell_bounded(record, Noted(_heard(record), "other_session", what))
            return
        told = translate(_heard(record), update)
        if isinstance(told, Spoke | ToolUsed | Planned) and self._replaying():
            return
        if isinstance(told, ToolUsed):
            told = self._with_terminal_text(told, update)
        if isinstance(told, UsageTold) and told.usage.cost_usd is not None:
            self.usage = replace(self.usage or TokenUsage(), cost_usd=told.usage.cost_usd)
        if told is not None:
            self._tell_bounded(record, told)
        if (used := spent(update)) is not None:
            self._hear_spent(record, used)

    def _hear_spent(self, record: Record, used: TokenUsage) -> None:
        self._spent = self._spent.plus(used)
        self.usage = replace(self._spent, cost_usd=self.usage.cost_usd if self.usage is not None else None)
        self._tell(UsageTold(_heard(record), self._spent))

    def _replaying(self) -> bool:
        """Whether the agent tells what was said before: while it loads a session, and until its first prompt here."""
        if self.in_flight is not None and self.in_flight.method in OPENING_METHODS[1:]:
            return True
        return self.session is not None and self.session.carried and self.turns == 0

    def _with_terminal_text(self, told: ToolUsed, update: Mapping[str, Any]) -> ToolUsed:
        """Adds what the call's terminal said last where the agent only points to it."""
        for terminal in terminals_of(update):
            _remember(self._terminal_of_call, told.id, terminal)
        if told.output is not None or told.status not in ("completed", "failed"):
            return told
        return replace(told, output=self._terminal_texts.get(self._terminal_of_call.get(told.id, "")))

    def _hear_request(self, record: Record, message: wire.Request) -> None:
        if any(each.id == message.id for each in self.open.values()):
            self._fail(f"the agent asked twice under the id {message.id!r}")
            return
        if len(self.open) >= self.limits.open_requests:
            self._fail(f"the agent asked more than {self.limits.open_requests} things at once")
            return
        self._requests_heard += 1
        number = self._requests_heard
        model = _REQUESTS.get(message.method)
        if model is None:
            problem = wire.RpcError(wire.METHOD_NOT_FOUND, f"there is no method {message.method[:200]!r}")
            self.open[number] = Asked(number, message.id, message.method, None, problem)
            return
        try:
            params = model.model_validate(message.params)
        except ValidationError as error:
            problem = wire.RpcError(wire.INVALID_PARAMS, str(error.errors(include_url=False, include_input=False)[0]))
            self.open[number] = Asked(number, message.id, message.method, None, problem)
            return
        permission = None
        if isinstance(params, schema.RequestPermissionRequest):
            permission = permission_wanted(_heard(record), str(number), params)
            self._tell(permission)
        self.open[number] = Asked(number, message.id, message.method, params, None, permission)

    def _hear_answer(self, record: Record, answer: wire.Answer) -> None:
        request = self.in_flight
        assert request is not None
        self.in_flight = None
        if answer.error is not None:
            self._hear_error(record, request, answer.error)
            return
        model = _ANSWERS.get(request.method)
        try:
            result = model.model_validate(answer.result or {}) if model is not None else None
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            self._fail(f"the agent's answer to {request.method} is not valid: {problem['loc']}: {problem['msg']}")
            return
        match result:
            case schema.InitializeResponse():
                self._initialised(result)
            case schema.PromptResponse():
                self._turn_ended(record, result.stop_reason, turn_usage(result.usage))
            case schema.NewSessionResponse() | schema.ForkSessionResponse():
                self._opened(record, request.method, result.session_id, answer.result)
            case schema.LoadSessionResponse() | schema.ResumeSessionResponse():
                self._opened(record, request.method, str(request.params.get("sessionId")), answer.result or {})
            case _ if request.method == "authenticate":
                self.authenticated = True
                self.refused.clear()
            case _:
                self.settled.add(_setting_of(request))

    def _hear_error(self, record: Record, request: wire.Request, error: wire.RpcError) -> None:
        if request.method == "session/prompt":
            # Some agents answer a cancelled prompt with an error.
            if self.cancelled:
                self._turn_ended(record, "cancelled", None)
                return
            self.turn_error = error
        else:
            self.refused[request.method] = error
        self._tell(Noted(_heard(record), "error", {"method": request.method, "code": error.code, "text": error.told}))

    def _initialised(self, result: schema.InitializeResponse) -> None:
        if result.protocol_version != PROTOCOL_VERSION:
            self._fail(f"the agent speaks version {result.protocol_version} of ACP, Holdfast {PROTOCOL_VERSION}")
            return
        can = result.agent_capabilities or schema.AgentCapabilities()
        session = can.session_capabilities or schema.SessionCapabilities()
        self.capabilities = Capabilities(
            agent=result.agent_info.title or result.agent_info.name if result.agent_info else "",
            version=strip_control(result.agent_info.version[:_VERSION_CHARACTERS]) if result.agent_info else "",
            load=bool(can.load_session),
            resume=session.resume is not None,
            fork=session.fork is not None,
            list=session.list is not None,
            auth_methods=tuple(Choice(each.id, each.name) for each in result.auth_methods or ()),
        )

    def _opened(self, record: Record, method: str, identity: str, offers: Mapping[str, Any]) -> None:
        self.session = Session(identity, method != "session/new", offers)
        can = self.capabilities or Capabilities()
        self.capabilities = replace(can, modes=choices(offers, "mode"), models=choices(offers, "model"))
        opened = {"session_id": identity, "method": method, "carried": self.session.carried}
        self._tell(Noted(_heard(record), "session_opened", opened))

    def _turn_ended(self, record: Record, reason: str, usage: TokenUsage | None) -> None:
        self._flood_over(record)
        if usage is not None:
            self.usage = replace(usage, cost_usd=self.usage.cost_usd if self.usage is not None else None)
        self.last_turn = TurnEnded(_heard(record), reason, usage)
        self._tell(self.last_turn)

    def _hear_garbage(self, record: Record, line: str) -> None:
        self._garbage += 1
        if self._garbage <= _GARBAGE_SHOWN:
            self._tell(Noted(_heard(record), "garbage", {"line": line[:500]}))
        if self._garbage > self.limits.garbage_lines:
            self._fail(f"the agent sent more than {self.limits.garbage_lines} lines that are no messages of ACP")

    # -- what is told ------------------------------------------------------------------------------------------------

    def _tell(self, update: Update) -> None:
        if update.heard.record > self._after:
            self._told.append(update)

    def _tell_bounded(self, record: Record, update: Update) -> None:
        """Tells an update unless too many came; where some were left out, a note says so as it begins and ends."""
        first = self._bucket.dropped == 0
        if self._bucket.takes(record.at):
            self._flood_over(record)
            self._tell(update)
        elif first:
            text = f"more than {self.limits.updates_per_second:g} updates a second: some are left out from here"
            self._tell(Noted(_heard(record), "flood", {"text": text}))

    def _flood_over(self, record: Record) -> None:
        dropped = self._bucket.forgive()
        if dropped:
            text = f"{dropped} updates were left out"
            self._tell(Noted(_heard(record), "flood", {"text": text, "dropped": dropped}))

    def _fail(self, message: str) -> None:
        self.fault = self.fault or Fault("protocol_error", message)


def terminal_number(identity: str) -> int:
    """Gives the number of the request that made a terminal, 0 for an id that names none."""
    return int(identity[1:]) if identity.startswith("t") and identity[1:].isdecimal() else 0


def choices(offers: Mapping[str, Any], what: str) -> tuple[Choice, ...]:
    """Gives what a session can be set to (`mode`, `model`), from its options or from ACP's older fields."""
    option = option_of(offers, what)
    if option is not None:
        return tuple(_flat(option.get("options")))
    state = offers.get(f"{what}s")
    listed = state.get(f"available{what.capitalize()}s") if isinstance(state, dict) else None
    name = "id" if what == "mode" else "modelId"
    return tuple(_listed(listed, name))


def option_of(offers: Mapping[str, Any], what: str) -> Mapping[str, Any] | None:
    """Gives the session's configuration option of this category, None where it has none."""
    options = offers.get("configOptions")
    for option in options if isinstance(options, list) else ():
        if isinstance(option, dict) and option.get("category") == what and isinstance(option.get("id"), str):
            return option
    return None


def _flat(options: Any) -> list[Choice]:
    found: list[Choice] = []
    for option in options if isinstance(options, list) else ():
        nested = option.get("options") if isinstance(option, dict) else None
        found += _flat(nested) if nested is not None else _listed([option], "value")
    return found


def _listed(items: Any, name: str) -> list[Choice]:
    entries = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return [
        Choice(item[name], str(item.get("name") or item[name])) for item in entries if isinstance(item.get(name), str)
    ]


def _setting_of(request: wire.Request) -> str:
    """Names the request that a session was set with: its method, and which option where there are several."""
    return f"{request.method} {request.params.get('configId', '')}".strip()


def _prompt_text(params: Mapping[str, Any]) -> str:
    return "\n".join(str(block.get("text", "")) for block in params.get("prompt", ()))


def _heard(record: Record) -> Heard:
    return Heard(record.n, datetime.fromtimestamp(record.at, UTC))


def _remember(table: dict[str, str], key: str, value: str) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > _TERMINALS_REMEMBERED:
        del table[next(iter(table))]
