"""What much work came to: plans and tasks by status, how steps went, how long they took, what they used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field

from holdfast.domain.usage import Spent


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Steps by their state; `retries` are those of a second or later attempt, `restarts` runs that were lost.

    `succeeded` of those that `ended` on their own, also of those that were rolled back since.
    """

    steps: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    interrupted: int = 0
    rolled_back: int = 0
    retries: int = 0
    restarts: int = 0
    succeeded: int = 0
    ended: int = 0

    def __add__(self, other: StepCounts) -> StepCounts:
        return StepCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class UsageSums:
    """What launches of agents used. `known` of them have a cost, `estimated` one from prices, `unknown` tokens only."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    thought_tokens: int = 0
    cost_usd: float = 0.0
    known: int = 0
    estimated: int = 0
    unknown: int = 0

    def __add__(self, other: UsageSums) -> UsageSums:
        return UsageSums(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def spent(self) -> Spent:
        return Spent(
            self.input_tokens,
            self.output_tokens,
            self.cached_tokens,
            self.thought_tokens,
            self.cost_usd if self.known else None,
            self.estimated > 0,
            self.known > 0 and self.unknown > 0,
        )


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the steps took that ended on their own, in seconds: all together, half of them at most, 90 % at most."""

    total_seconds: float
    median_seconds: float
    p90_seconds: float


@dataclass(frozen=True, slots=True)
class Kind:
    """By what steps are told apart: their project, and the agent and model (both empty: a command)."""

    project_id: str
    agent: str
    model: str


@dataclass(frozen=True, slots=True)
class Tally:
    """What one kind of steps came to."""

    counts: StepCounts = field(default_factory=StepCounts)
    used: UsageSums = field(default_factory=UsageSums)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.counts + other.counts, self.used + other.used)


@dataclass(frozen=True, slots=True)
class Work:
    """How steps went; None where nothing has ended yet."""

    steps: StepCounts
    success_share: float | None
    durations: Durations | None
    spent: Spent


@dataclass(frozen=True, slots=True)
class Figures:
    """Plans and tasks by status, and their steps."""

    plans: Mapping[str, int]
    tasks: Mapping[str, int]
    work: Work


@dataclass(frozen=True, slots=True)
class ProjectFigures:
    project: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class AgentFigures:
    """The steps of one agent and model; both empty: commands."""

    agent: str
    model: str
    work: Work


@dataclass(frozen=True, slots=True)
class Summary:
    """All together, each project, each agent with its models."""

    all: Figures
    projects: tuple[ProjectFigures, ...]
    agents: tuple[AgentFigures, ...]


def work(tallies: Iterable[Tally], durations: Durations | None) -> Work:
    """Gives how all these steps went."""
    whole = sum(tallies, Tally())
    counts = whole.counts
    share = counts.succeeded / counts.ended if counts.ended else None
    return Work(counts, share, durations, whole.used.spent)
