"""Every error that Holdfast raises on purpose.

    HoldfastError                 code, message, hint: the same shape in the CLI, in `--json` and in events
    ├── UserError                 bad input or a request that cannot be met; nothing was changed
    │   ├── UsageError            the command line or a plan file is wrong
    │   ├── NotFound              no such project, plan, task, step ...
    │   ├── IllegalState          the thing exists but is in a state that does not allow this
    │   │   └── IllegalTransition a transition that the tables of `domain/transitions.py` do not have
    │   ├── OverBudget            the plan's budget is used up
    │   └── Unavailable           no worker, agent, sandbox or program to do it with
    ├── StepError                 one task's work failed (its command, its checks, its merge); retries apply
    ├── InfraError                disk, database or operating system failed: nobody's task failure, the worker stops
    │   └── ClaimLost             another worker has taken this task over: stop working on it
    └── Corruption                stored data is not what was written; named, never used

A surface never looks at a class, only at `code` and `exit_code`.
"""

from __future__ import annotations

from typing import ClassVar


class HoldfastError(Exception):
    """Carries a stable code, one sentence for people, and a hint that says what to do."""

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code


class UserError(HoldfastError):
    default_code = "bad_request"


class UsageError(UserError):
    exit_code = 2
    default_code = "usage"


class NotFound(UserError):
    exit_code = 4
    default_code = "not_found"


class IllegalState(UserError):
    exit_code = 3
    default_code = "illegal_state"


class IllegalTransition(IllegalState):
    """Raised by `domain.transitions` for a change of state that its tables do not have."""

    default_code = "illegal_transition"

    def __init__(self, entity: str, source: str, target: str, allowed: tuple[str, ...]) -> None:
        choices = ", ".join(allowed) or "nothing: it is final"
        super().__init__(f"a {entity} cannot go from {source} to {target} (allowed: {choices})")
        self.entity = entity
        self.source = source
        self.target = target
        self.allowed = allowed


class OverBudget(UserError):
    exit_code = 9
    default_code = "over_budget"


class Unavailable(UserError):
    exit_code = 5
    default_code = "unavailable"


class StepError(HoldfastError):
    default_code = "step_failed"


class InfraError(HoldfastError):
    default_code = "infrastructure"


class ClaimLost(InfraError):
    default_code = "claim_lost"


class Corruption(HoldfastError):
    default_code = "corruption"
