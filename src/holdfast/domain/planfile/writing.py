"""Writes a plan file: what reads as the same plan again, in the order and style a person would use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from holdfast.domain.budget import Budget
from holdfast.domain.permissions import Policy
from holdfast.domain.plan import REVIEW_ROUNDS, GateOrder, PhaseMode, SupervisorMode
from holdfast.domain.planfile.spec import Defaults, PhaseSpec, PlanFile, TaskSpec
from holdfast.domain.words import slug

_PLAIN = re.compile(r"[^\W\d_](?:[\w ./+=@-]*[\w./+=@-])?")
_LOOKS_TYPED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_OTHER_BREAKS = ("\x85", "\u2028", "\u2029", "\r", "\ufeff")


def render(planfile: PlanFile, *, keys: bool = False) -> str:
    """Gives the text of a plan file that `parse` reads as the same plan; what is a default is left out.

    With `keys` every task has its key written, so that it stays the same task when its title is edited.
    """
    return "".join(f"{line}\n" for line in _plan(planfile, keys))


def render_phase(phase: PhaseSpec) -> str:
    """Gives one phase as it stands in a plan file's list, every key written."""
    return "".join(f"{line.removeprefix('  ')}\n" for line in _item(_phase(phase, True)))


def render_task(task: TaskSpec) -> str:
    """Gives one task as it stands in a phase's list, its key written."""
    return "".join(f"{line.removeprefix('  ')}\n" for line in _item(_task(task, True)))


def flow(values: Mapping[str, object]) -> str:
    """Gives plain values (texts, numbers, lists, mappings) as YAML in one line."""
    return _escaped(json.dumps(values, ensure_ascii=False))


def _plan(plan: PlanFile, keys: bool) -> Iterator[str]:
    yield from _text("title", plan.title)
    yield from _text("slug", plan.slug)
    yield from _text("description", plan.description)
    yield from _text("base", plan.base)
    yield from _text("agent", plan.agent)
    yield from _permissions(plan.permissions)
    if plan.gates:
        yield f"gates: [{', '.join(plan.gates)}]"
    if plan.gate_order is not GateOrder.APPROVE_THEN_REVIEW:
        yield f"gate_order: {plan.gate_order}"
    yield from _review(plan)
    yield from _supervisor(plan)
    yield from _texts("verify", plan.verify)
    yield from _budget(plan.budget)
    if plan.variables:
        yield "variables:"
        for name, value in plan.variables.items():
            yield from _indented(_text(name, value, keep_empty=True))
    yield from _defaults(plan.defaults)
    yield "phases:"
    for phase in plan.phases:
        yield from _item(_phase(phase, keys))


def _review(plan: PlanFile) -> Iterator[str]:
    told: dict[str, object] = {}
    if plan.review_agent:
        told["agent"] = plan.review_agent
    if plan.review_rounds != REVIEW_ROUNDS:
        told["rounds"] = plan.review_rounds
    if plan.review:
        yield f"review: {flow(told) if told else 'true'}"


def _supervisor(plan: PlanFile) -> Iterator[str]:
    if plan.supervisor_agent:
        yield f"supervisor: {flow({'agent': plan.supervisor_agent, 'after_failure': str(plan.supervisor)})}"
    elif plan.supervisor is not SupervisorMode.OFF:
        yield f"supervisor: {plan.supervisor}"


def _phase(phase: PhaseSpec, keys: bool) -> Iterator[str]:
    yield from _text("title", phase.title)
    if phase.mode is not PhaseMode.SEQUENTIAL:
        yield f"mode: {phase.mode}"
    yield from _text("when", phase.when)
    if phase.pause_after:
        yield "pause_after: true"
    yield "tasks:"
    for task in phase.tasks:
        yield from _item(_task(task, keys))


def _task(task: TaskSpec, keys: bool) -> Iterator[str]:
    yield from _text("title", task.title)
    if keys or task.key != slug(task.title):
        yield from _text("key", task.key)
    yield from _text("instructions", task.instructions)
    yield from _text("run", task.run)
    yield from _text("agent", task.agent)
    if task.depends_on:
        yield f"depends_on: [{', '.join(_scalar(key) for key in task.depends_on)}]"
    if task.max_attempts is not None:
        yield f"max_attempts: {task.max_attempts}"
    yield from _seconds("timeout", task.timeout_seconds)
    yield from _flag("retryable", task.retryable)
    yield from _texts("verify", task.verify)
    yield from _budget(task.budget)
    yield from _permissions(task.permissions)


def _defaults(defaults: Defaults) -> Iterator[str]:
    if defaults == Defaults():
        return
    yield "defaults:"
    if defaults.max_attempts is not None:
        yield f"  max_attempts: {defaults.max_attempts}"
    yield from _indented(_seconds("timeout", defaults.timeout_seconds))
    yield from _indented(_flag("retryable", defaults.retryable))


def _budget(budget: Budget) -> Iterator[str]:
    if budget == Budget():
        return
    yield "budget:"
    yield from _indented(_seconds("max_seconds", budget.max_seconds))
    if budget.max_tokens is not None:
        yield f"  max_tokens: {budget.max_tokens}"
    if budget.max_cost_usd is not None:
        yield f"  max_cost_usd: {_number(budget.max_cost_usd)}"


def _permissions(policy: Policy | None) -> Iterator[str]:
    if policy is None:
        return
    if not policy.rules:
        yield f"permissions: {policy.otherwise}"
        return
    yield "permissions:"
    for rule in policy.rules:
        narrower = {"command": rule.command, "path": rule.path}
        parts = [f"{rule.verdict}: {_scalar(rule.kind)}", *(f"{k}: {_scalar(v)}" for k, v in narrower.items() if v)]
        yield f"  - {{{', '.join(parts)}}}"
    if policy.otherwise is not None:
        yield f"  - {policy.otherwise}"


def _seconds(key: str, value: float | None) -> Iterator[str]:
    if value is not None:
        yield f"{key}: {_number(value)}"


def _flag(key: str, value: bool | None) -> Iterator[str]:
    if value is not None:
        yield f"{key}: {'true' if value else 'false'}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and value < 1e15 else repr(float(value))


def _texts(key: str, values: Sequence[str]) -> Iterator[str]:
    if not values:
        return
    yield f"{key}:"
    for value in values:
        yield from _indented(_block("-", value))


def _text(key: str, value: str, *, keep_empty: bool = False) -> Iterator[str]:
    if value or keep_empty:
        yield from _block(f"{key}:", value)


def _block(start: str, value: str) -> Iterator[str]:
    """Writes a text after `start`: several lines as a literal block where YAML can keep them exactly, else quoted."""
    lines = value.split("\n")
    ends = lines[-1] == ""
    body = lines[:-1] if ends else lines
    blank_edges = not body or not body[0].strip() or body[0][0] in " \t" or not body[-1].strip()
    odd = any(line and not line.strip() for line in body) or any(mark in value for mark in _OTHER_BREAKS)
    if "\n" not in value or blank_edges or odd:
        yield f"{start} {_scalar(value)}"
        return
    yield f"{start} |" if ends else f"{start} |-"
    for line in body:
        yield f"  {line}" if line else ""


def _scalar(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _LOOKS_TYPED:
        return value
    if value.isprintable() and ('"' in value or "\\" in value):
        return "'" + value.replace("'", "''") + "'"
    return _escaped(json.dumps(value, ensure_ascii=False))


def _escaped(quoted: str) -> str:
    """Escapes what JSON leaves as it is in its strings and YAML would read as a line break or refuse."""
    for mark in ("\x7f", *_OTHER_BREAKS):
        quoted = quoted.replace(mark, f"\\u{ord(mark):04x}")
    return quoted


def _item(lines: Iterator[str]) -> Iterator[str]:
    """Writes a mapping as an item of a list under its key."""
    for index, line in enumerate(lines):
        prefix = "  - " if index == 0 else "    "
        yield f"{prefix}{line}" if line else ""


def _indented(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield f"  {line}" if line else ""
