"""What a plan file says, as values; defaults are kept apart from what was written, so that it can be written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.domain.budget import Budget
from holdfast.domain.permissions import Policy
from holdfast.domain.plan import REVIEW_ROUNDS, GateName, GateOrder, PhaseMode, SupervisorMode

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task; exactly one of `instructions` (for an agent) and `run` (a shell command) is not empty.

    None, or an empty agent, means: what `defaults:` or the plan says.
    """

    key: str
    title: str
    instructions: str = ""
    run: str = ""
    agent: str = ""
    depends_on: tuple[str, ...] = ()
    max_attempts: int | None = None
    timeout_seconds: float | None = None
    verify: tuple[str, ...] = ()
    retryable: bool | None = None
    budget: Budget = field(default_factory=Budget)
    permissions: Policy | None = None


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """One phase and its tasks, in the order of the file."""

    title: str
    tasks: tuple[TaskSpec, ...]
    mode: PhaseMode = PhaseMode.SEQUENTIAL
    pause_after: bool = False
    when: str = ""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What tasks take over that do not say otherwise."""

    max_attempts: int | None = None
    timeout_seconds: float | None = None
    retryable: bool | None = None


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A whole plan file. `base` is the branch or commit to start from, empty = the project's default branch.

    `text` is the file it was read from; two plan files that say the same are equal, however they are written.
    """

    title: str
    phases: tuple[PhaseSpec, ...]
    description: str = ""
    slug: str = ""
    base: str = ""
    gates: tuple[GateName, ...] = ()
    gate_order: GateOrder = GateOrder.APPROVE_THEN_REVIEW
    review: bool = False
    review_agent: str = ""
    review_rounds: int = REVIEW_ROUNDS
    supervisor: SupervisorMode = SupervisorMode.OFF
    supervisor_agent: str = ""
    verify: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    agent: str = ""
    permissions: Policy | None = None
    defaults: Defaults = field(default_factory=Defaults)
    text: str = field(default="", compare=False, repr=False)
