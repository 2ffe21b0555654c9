"""Decides what to ask of the agent next, from the state of the dialogue alone, until it is ready for a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from acp import PROTOCOL_VERSION

from holdfast import __version__
from holdfast.agents.acp.dialogue import Dialogue, Session, choices, option_of
from holdfast.agents.acp.terms import Capabilities, Fault, SessionWanted
from holdfast.agents.acp.wire import RpcError


@dataclass(frozen=True, slots=True)
class Send:
    """A request to be sent next."""

    method: str
    params: Mapping[str, Any]


def next_step(dialogue: Dialogue, wanted: SessionWanted, cwd: str) -> Send | Fault | Literal["wait", "ready"]:
    """Gives the next request on the way to a session as wanted, or why there can be none."""
    if dialogue.fault is not None:
        return dialogue.fault
    if dialogue.in_flight is not None:
        return "wait"
    can = dialogue.capabilities
    if can is None:
        refusal = dialogue.refused.get("initialize")
        return _initialize(wanted) if refusal is None else _fault("start", refusal, can)
    if (refusal := dialogue.refused.get("authenticate")) is not None:
        return Fault("not_logged_in", f"the agent did not log in: {refusal.told}{_ways(can)}")
    if dialogue.session is None:
        return _open(dialogue, can, wanted, cwd)
    for what, value in (("mode", wanted.mode), ("model", wanted.model)):
        if value is not None:
            step = _set(dialogue, dialogue.session, what, value)
            if step is not None:
                return step
    return "ready"


def turn_fault(dialogue: Dialogue) -> Fault | None:
    """Gives why the last turn failed, where the agent answered its prompt with an error."""
    error = dialogue.turn_error
    return None if error is None else _fault("go on", error, dialogue.capabilities)


def _initialize(wanted: SessionWanted) -> Send:
    files = {"readTextFile": wanted.reads_files, "writeTextFile": wanted.writes_files}
    return Send(
        "initialize",
        {
            "protocolVersion": PROTOCOL_VERSION,
            "clientInfo": {"name": "holdfast", "title": "Holdfast", "version": __version__},
            "clientCapabilities": {"fs": files, "terminal": wanted.terminals},
        },
    )


def _open(dialogue: Dialogue, can: Capabilities, wanted: SessionWanted, cwd: str) -> Send | Fault:
    place = {"cwd": wanted.cwd or cwd, "mcpServers": [dict(server) for server in wanted.mcp_servers]}
    for method in _ways_to_open(can, wanted):
        refusal = dialogue.refused.get(method)
        if refusal is None:
            known = {} if method == "session/new" else {"sessionId": wanted.session_id}
            return Send(method, {**known, **place})
        if refusal.wants_login and wanted.auth_method is not None and not dialogue.authenticated:
            return Send("authenticate", {"methodId": wanted.auth_method})
        if refusal.wants_login or refusal.rate_limited or method == "session/new":
            return _fault("open a session", refusal, can)
    raise AssertionError("every way ends with a new session")


def _ways_to_open(can: Capabilities, wanted: SessionWanted) -> list[str]:
    """Gives the requests that open the session, the best first; the last one is always for a new session."""
    known = {
        "new": (),
        "fork": (("session/fork", can.fork),),
        "load": (("session/resume", can.resume), ("session/load", can.load)),
    }
    return [*(method for method, has in known[wanted.how] if has), "session/new"]


def _set(dialogue: Dialogue, session: Session, what: str, value: str) -> Send | Fault | None:
    """Gives the request that sets the mode or model, None if it is set."""
    option = option_of(session.offers, what)
    method = "session/set_config_option" if option is not None else f"session/set_{what}"
    name = f"{method} {option['id']}" if option is not None else method
    if name in dialogue.settled:
        return None
    if (refusal := dialogue.refused.get(method)) is not None:
        return Fault("start_failed", f"the agent did not take the {what} {value!r}: {refusal.told}")
    offered = choices(session.offers, what)
    chosen = next((each.id for each in offered if value in (each.id, each.name)), None)
    if chosen is None:
        names = ", ".join(each.id for each in offered) or "none"
        return Fault("start_failed", f"the agent has no {what} {value!r}; it has: {names}")
    if option is not None:
        return Send(method, {"sessionId": session.id, "configId": option["id"], "value": chosen})
    return Send(method, {"sessionId": session.id, "modeId" if what == "mode" else "modelId": chosen})


def _fault(what: str, error: RpcError, can: Capabilities | None) -> Fault:
    if error.rate_limited:
        return Fault("rate_limited", f"the agent's model is overloaded or over its limit: {error.told}")
    if error.wants_login:
        return Fault("not_logged_in", f"the agent is not logged in: {error.told}{_ways(can)}")
    reason = "agent_error" if what == "go on" else "start_failed"
    return Fault(reason, f"the agent could not {what}: {error.told}")


def _ways(can: Capabilities | None) -> str:
    methods = ", ".join(f"{each.name} ({each.id})" for each in can.auth_methods) if can is not None else ""
    return f"; it offers to log in by: {methods}" if methods else ""
