"""Says how a session ended, from what its dialogue heard and what the worker ended it for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from holdfast.agents.acp.dialogue import Dialogue
from holdfast.agents.acp.opening import turn_fault
from holdfast.agents.acp.terms import Capabilities, Fault, TurnOutcome
from holdfast.agents.text import strip_control


def outcome(dialogue: Dialogue, verdict: Fault | None, of_this_boot: bool) -> TurnOutcome:
    """Gives the outcome of a session whose process has ended, or whose end nobody saw."""
    fault = _why(dialogue, verdict, of_this_boot)
    end: Mapping[str, Any] = dialogue.end.fields if dialogue.end is not None else {}
    return TurnOutcome(
        reason=fault.reason,
        message=strip_control(fault.message),
        session_id=dialogue.session.id if dialogue.session is not None else "",
        capabilities=dialogue.capabilities or Capabilities(),
        turns=dialogue.turns,
        usage=dialogue.usage,
        exit_code=end.get("exit_code"),
        signal=end.get("signal"),
        seconds=end.get("seconds", 0.0),
        cpu_seconds=end.get("cpu_seconds", 0.0),
        peak_memory_bytes=end.get("peak_memory_bytes", 0),
        dropped_bytes=end.get("dropped_bytes", 0),
        survivors=tuple(end.get("survivors", ())),
    )


def _why(dialogue: Dialogue, verdict: Fault | None, of_this_boot: bool) -> Fault:
    said = dialogue.errors.strip()
    fault = dialogue.fault or turn_fault(dialogue) or (verdict if verdict and verdict.reason != "stopped" else None)
    if fault is not None:
        at_start = fault.reason == "start_failed" and dialogue.session is None
        return Fault(fault.reason, f"{fault.message}; it said: {said}") if said and at_start else fault
    end = dialogue.end
    if end is not None and end.fields["reason"] == "start_failed":
        return Fault("start_failed", str(end.fields["message"]))
    if end is not None and end.fields["reason"] == "timeout":
        return Fault("timeout", "the agent was stopped at its time limit")
    if dialogue.last_turn is not None:
        return Fault(cast("Any", dialogue.last_turn.reason), _TURN_ENDS.get(dialogue.last_turn.reason, ""))
    if not of_this_boot:
        return Fault("lost", "the machine was restarted while the agent worked")
    if end is None:
        return Fault("lost", "the agent's shim died, and the agent with it")
    if verdict is not None or end.fields["reason"] == "stopped":
        return Fault("stopped", "the agent was stopped")
    reason = "agent_died" if dialogue.session is not None else "start_failed"
    where = "in the middle of its work" if dialogue.session is not None else "before it had a session"
    return Fault(reason, f"the agent ended {where} with {_code(end.fields)}" + (f": {said}" if said else ""))


_TURN_ENDS = {
    "max_tokens": "the agent reached its limit of tokens",
    "max_turn_requests": "the agent reached its limit of requests to its model",
    "refusal": "the agent refused to go on",
    "cancelled": "the agent's turn was cancelled",
}


def _code(fields: Mapping[str, Any]) -> str:
    return f"signal {fields['signal']}" if fields["signal"] is not None else f"exit code {fields['exit_code']}"
