"""From YAML nodes to the spec: reads every field, then checks what the fields say about each other."""

from __future__ import annotations

import re
from collections.abc import Mapping as Map
from dataclasses import dataclass

from holdfast.domain import variables
from holdfast.domain.budget import Budget
from holdfast.domain.plan import REVIEW_ROUNDS, GateName, GateOrder, PhaseMode, SupervisorMode
from holdfast.domain.planfile.document import Mapping, Node, Place, Problem, Scalar, named
from holdfast.domain.planfile.fields import Fields
from holdfast.domain.planfile.spec import Defaults, PhaseSpec, PlanFile, TaskSpec
from holdfast.domain.words import did_you_mean, slug

PLAN_KEYS = (
    "title", "description", "slug", "base", "gates", "gate_order", "review", "supervisor", "verify", "budget",
    "variables", "agent", "permissions", "defaults", "phases",
)  # fmt: skip
PHASE_KEYS = ("title", "mode", "pause_after", "when", "tasks")
TASK_KEYS = (
    "title", "key", "instructions", "run", "agent", "depends_on", "max_attempts", "timeout", "verify", "retryable",
    "budget", "permissions",
)  # fmt: skip
DEFAULT_KEYS = ("max_attempts", "timeout", "retryable")
REVIEW_KEYS = ("agent", "rounds")
SUPERVISOR_KEYS = ("agent", "after_failure")
BUDGET_KEYS = ("max_seconds", "max_tokens", "max_cost_usd")
ATTEMPTS = (1, 100)
ROUNDS = (1, 20)
KEY = re.compile(r"[^\W_](?:[\w.-]{0,78}[\w])?")
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class ReadTask:
    """A task and where in the file its parts stand; `texts` are the ones that may use variables."""

    spec: TaskSpec
    at: Place
    depends_on: tuple[Scalar, ...]
    texts: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class ReadPhase:
    spec: PhaseSpec
    tasks: tuple[ReadTask, ...]
    when: Scalar | None


@dataclass(frozen=True, slots=True)
class ReadPlan:
    spec: PlanFile
    phases: tuple[ReadPhase, ...]
    texts: tuple[Scalar, ...]


def read_plan(root: Mapping, problems: list[Problem]) -> ReadPlan:
    """Gives the plan that the nodes say, as far as they can be read; the rest is in `problems`."""
    fields = Fields.of(root, "plan", PLAN_KEYS, problems)
    title = fields.line("title", required=True)
    verify = fields.scalars("verify")
    phases = tuple(_phase(node, problems) for node in fields.nodes("phases", of="phase"))
    review, review_agent, review_rounds = _review(fields)
    supervisor, supervisor_agent = _supervisor(fields)
    spec = PlanFile(
        title=title,
        description=fields.text("description"),
        slug=_slug(fields),
        base=_base(fields),
        gates=_gates(fields),
        gate_order=fields.choice("gate_order", GateOrder) or GateOrder.APPROVE_THEN_REVIEW,
        review=review,
        review_agent=review_agent,
        review_rounds=review_rounds,
        supervisor=supervisor,
        supervisor_agent=supervisor_agent,
        verify=tuple(command.value for command in verify),
        budget=_budget(fields),
        variables=_variables(fields),
        agent=fields.line("agent"),
        permissions=fields.policy("permissions"),
        defaults=_defaults(fields),
        phases=tuple(phase.spec for phase in phases),
    )
    return ReadPlan(spec, phases, verify)


def _review(fields: Fields) -> tuple[bool, str, int]:
    """Reads `review: true`, or `review: {agent: NAME, rounds: 2}`: whether, by whom, how often at most."""
    node = fields.values.get("review")
    if not isinstance(node, Mapping):
        return fields.flag("review") or False, "", REVIEW_ROUNDS
    given = Fields.of(node, "review", REVIEW_KEYS, fields.problems)
    return True, given.line("agent"), given.whole_number("rounds", *ROUNDS) or REVIEW_ROUNDS


def _supervisor(fields: Fields) -> tuple[SupervisorMode, str]:
    """Reads `supervisor: suggest`, or `supervisor: {agent: NAME, after_failure: suggest}`: what it does, who it is."""
    node = fields.values.get("supervisor")
    if not isinstance(node, Mapping):
        return fields.choice("supervisor", SupervisorMode) or SupervisorMode.OFF, ""
    given = Fields.of(node, "supervisor", SUPERVISOR_KEYS, fields.problems)
    return given.choice("after_failure", SupervisorMode) or SupervisorMode.OFF, given.line("agent")


def _phase(node: Node, problems: list[Problem]) -> ReadPhase:
    fields = Fields.of(node, "phase", PHASE_KEYS, problems)
    if not isinstance(node, Mapping):
        return ReadPhase(PhaseSpec("", ()), (), None)
    title = fields.line("title", required=True)
    tasks = tuple(_task(item, problems) for item in fields.nodes("tasks", of="task"))
    spec = PhaseSpec(
        title=title,
        tasks=tuple(task.spec for task in tasks),
        mode=fields.choice("mode", PhaseMode) or PhaseMode.SEQUENTIAL,
        pause_after=fields.flag("pause_after") or False,
        when=fields.text("when").strip(),
    )
    return ReadPhase(spec, tasks, fields.scalar("when") if spec.when else None)


def _task(node: Node, problems: list[Problem]) -> ReadTask:
    fields = Fields.of(node, "task", TASK_KEYS, problems)
    if not isinstance(node, Mapping):
        return ReadTask(TaskSpec("", ""), node.at, (), ())
    title = fields.line("title", required=True)
    key = _key(fields, title)
    _check_executor(fields)
    depends_on = _unique(fields, "depends_on")
    verify = fields.scalars("verify")
    spec = TaskSpec(
        key=key,
        title=title,
        instructions=fields.text("instructions"),
        run=fields.text("run"),
        agent=fields.line("agent"),
        depends_on=tuple(item.value.strip() for item in depends_on),
        max_attempts=fields.whole_number("max_attempts", *ATTEMPTS),
        timeout_seconds=fields.seconds("timeout"),
        verify=tuple(command.value for command in verify),
        retryable=fields.flag("retryable"),
        budget=_budget(fields),
        permissions=fields.policy("permissions"),
    )
    written = [fields.values.get(name) for name in ("instructions", "run")]
    texts = tuple(text for text in written if isinstance(text, Scalar))
    return ReadTask(spec, fields.place("key" if fields.has("key") else "title"), depends_on, texts + verify)


def _check_executor(fields: Fields) -> None:
    if fields.has("instructions") and fields.has("run"):
        fields.complain(fields.place("run"), "a task has `instructions` or `run`, not both", "make it two tasks")
    elif not fields.has("instructions") and not fields.has("run"):
        todo = "`instructions:` is for an agent, `run:` is a command"
        fields.complain(fields.node.at, "this task has neither `instructions` nor `run`", todo)
    for key, needs in (("agent", "no agent"), ("permissions", "no permissions")):
        if fields.has("run") and fields.has(key):
            fields.complain(fields.place(key), f"a task with `run` needs {needs}", f"remove `{key}`")


def _key(fields: Fields, title: str) -> str:
    if not fields.has("key"):
        key = slug(title)
        if title and not key:
            fields.complain(fields.place("title"), f"no key can be made of the title {title!r}", "add `key: …`")
        return key
    key = fields.line("key")
    if key and not KEY.fullmatch(key):
        todo = "letters, digits, '.', '_' and '-', at most 80, a letter or digit first"
        fields.complain(fields.place("key"), f"{key!r} cannot be a key", todo)
    return key


def _slug(fields: Fields) -> str:
    word = fields.line("slug")
    if word and (not SLUG.fullmatch(word) or len(word) > 60):
        todo = f"e.g. {slug(word, ascii_only=True) or 'my-plan'}: lower-case letters, digits and hyphens, at most 60"
        fields.complain(fields.place("slug"), f"{word!r} cannot be a slug", todo)
    return word


def _base(fields: Fields) -> str:
    base = fields.line("base")
    if base and (base.startswith("-") or re.search(r"[\s~^:?*\[\\]|\.\.|@\{|\.lock$|/$", base)):
        fields.complain(fields.place("base"), f"{base!r} is no branch or commit", "e.g. main, or a commit's hash")
    return base


def _gates(fields: Fields) -> tuple[GateName, ...]:
    gates = [fields.one_of("gates", item, GateName) for item in _unique(fields, "gates")]
    return tuple(gate for gate in gates if gate is not None)


def _unique(fields: Fields, key: str) -> tuple[Scalar, ...]:
    seen: dict[str, Scalar] = {}
    for item in fields.scalars(key):
        if item.value.strip() in seen:
            fields.complain(item.at, f"`{key}` has {item.value!r} twice", "remove one")
        seen.setdefault(item.value.strip(), item)
    return tuple(seen.values())


def _budget(fields: Fields) -> Budget:
    node = fields.values.get("budget")
    if node is None:
        return Budget()
    inner = Fields.of(node, "budget", BUDGET_KEYS, fields.problems)
    return Budget(
        inner.seconds("max_seconds"), inner.whole_number("max_tokens", 1, 10**15), inner.amount("max_cost_usd")
    )


def _defaults(fields: Fields) -> Defaults:
    node = fields.values.get("defaults")
    if node is None:
        return Defaults()
    inner = Fields.of(node, "defaults section", DEFAULT_KEYS, fields.problems)
    return Defaults(inner.whole_number("max_attempts", *ATTEMPTS), inner.seconds("timeout"), inner.flag("retryable"))


def _variables(fields: Fields) -> Map[str, str]:
    node = fields.values.get("variables")
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        fields.complain(node.at, f"`variables` has to be a mapping, this is {named(node)}", "write `NAME: value`")
        return {}
    found: dict[str, str] = {}
    for key, value in node.entries:
        if not variables.NAME.fullmatch(key.value):
            guess = re.sub(r"\W+", "_", slug(key.value, ascii_only=True)).upper() or "NAME"
            todo = did_you_mean(guess, [guess]) if not guess[0].isdigit() else "begin with a letter"
            fields.complain(key.at, f"{key.value!r} cannot name a variable", todo)
        elif not isinstance(value, Scalar) or value.null:
            fields.complain(value.at, f"the variable {key.value} is {named(value)}, not a text", 'write "" for empty')
        else:
            found[key.value] = value.value
    return found
