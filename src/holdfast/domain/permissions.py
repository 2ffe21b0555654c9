"""What an agent may do without a person: the policy that its questions are answered from.

A policy is a word for everything, or a list of rules of which the first that fits decides; what none fits is asked.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import cast

from holdfast.domain.conversation import PermissionWanted, ToolUsed
from holdfast.errors import UsageError

EDITS = frozenset({"read", "edit", "delete", "move", "search", "think"})


class Verdict(StrEnum):
    ALLOW = "allow"
    REJECT = "reject"
    ASK = "ask"


class PolicyWord(StrEnum):
    """`allow-edits` allows what reads and edits files inside the worktree, and asks about all else."""

    ASK = "ask"
    ALLOW_EDITS = "allow-edits"
    ALLOW_ALL = "allow-all"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It fits a call of `kind` (ACP's: read, edit, execute, fetch …; `*` = any) whose command matches
    `command` and all of whose paths match `path` (shell patterns, `*` goes across `/`; empty = any).

    Paths are as they are below the worktree; what lies outside fits no `path` that does not begin with `/`.
    """

    verdict: Verdict
    kind: str = "*"
    command: str = ""
    path: str = ""


Policy = PolicyWord | tuple[Rule, ...]


# Looking is allowed, nothing else is, and nobody is asked.
READ_ONLY: Policy = (
    Rule(Verdict.ALLOW, "read"),
    Rule(Verdict.ALLOW, "search"),
    Rule(Verdict.ALLOW, "think"),
    Rule(Verdict.REJECT),
)


def policy_of(*sources: object) -> Policy:
    """Gives the first policy that is set: a word, or a list of mappings, one per rule; raises `UsageError`."""
    chosen = next((source for source in sources if source not in (None, "", (), [])), PolicyWord.ASK)
    if isinstance(chosen, str):
        if chosen not in set(PolicyWord):
            raise UsageError(f"{chosen!r} is no permission policy", hint=f"one of: {', '.join(PolicyWord)}, or rules")
        return PolicyWord(chosen)
    if not isinstance(chosen, Sequence):
        raise UsageError("permissions are a word or a list of rules", hint=f"the words: {', '.join(PolicyWord)}")
    return tuple(_rule(given) for given in cast("Sequence[object]", chosen))


_RULE_KEYS = ("allow", "reject", "ask")


def _rule(given: object) -> Rule:
    """Reads `{allow: execute, command: "npm *"}`: the verdict with the kind of tool, then what narrows it."""
    entries: Mapping[str, object] = cast("Mapping[str, object]", given) if isinstance(given, Mapping) else {}
    verdicts = [key for key in _RULE_KEYS if key in entries]
    unknown = [key for key in entries if key not in (*_RULE_KEYS, "command", "path")]
    if len(verdicts) != 1 or unknown or not all(isinstance(value, str) for value in entries.values()):
        raise UsageError(
            f"{given!r} is no rule of a permission policy",
            hint="write {allow: KIND}, {reject: KIND} or {ask: KIND} (KIND as execute, edit, fetch or *), "
            "with command: PATTERN and path: PATTERN where it is narrower",
        )
    verdict = verdicts[0]
    return Rule(Verdict(verdict), str(entries[verdict]), str(entries.get("command", "")), str(entries.get("path", "")))


def decide(policy: Policy, call: ToolUsed, worktree: str) -> Verdict:
    """Says whether a call is allowed, rejected, or has to be asked about."""
    match policy:
        case PolicyWord.ASK:
            return Verdict.ASK
        case PolicyWord.ALLOW_ALL:
            return Verdict.ALLOW
        case PolicyWord.ALLOW_EDITS:
            inside = all(not posixpath.isabs(path) for path in paths_of(call, worktree))
            return Verdict.ALLOW if call.kind in EDITS and inside else Verdict.ASK
        case _:
            return next((rule.verdict for rule in policy if fits(rule, call, worktree)), Verdict.ASK)


def fits(rule: Rule, call: ToolUsed, worktree: str) -> bool:
    """Tells whether a rule speaks about a call."""
    if rule.kind not in ("*", call.kind or "other"):
        return False
    if rule.command and not fnmatchcase(command_of(call), rule.command):
        return False
    paths = paths_of(call, worktree)
    return not rule.path or (bool(paths) and all(fnmatchcase(path, rule.path) for path in paths))


def command_of(call: ToolUsed) -> str:
    """Gives the command that a call would run, as far as the agent tells: agents name it differently."""
    given = call.input or {}
    for name in ("command", "cmd", "script"):
        value = given.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, Sequence):
            return " ".join(str(part) for part in cast("Sequence[object]", value))
    return call.title or ""


def paths_of(call: ToolUsed, worktree: str) -> tuple[str, ...]:
    """Gives the paths of a call, normalised; relative ones lie in the worktree, absolute ones outside."""
    given: Mapping[str, object] = call.input or {}
    told = [given[name] for name in ("path", "file_path", "filePath", "abs_path", "filename") if name in given]
    named = [*(call.paths or ()), *(diff.path for diff in call.diffs or ()), *(p for p in told if isinstance(p, str))]
    return tuple(dict.fromkeys(_below(path, worktree) for path in named))


def _below(path: str, worktree: str) -> str:
    whole = posixpath.normpath(posixpath.join(worktree, path))
    root = posixpath.normpath(worktree)
    return posixpath.relpath(whole, root) if whole == root or whole.startswith(root + "/") else whole


def option(wanted: PermissionWanted, *, allow: bool, always: bool = False) -> str | None:
    """Gives the id of the agent's option that says it, for this once if it can be; None if it offers none."""
    word = "allow" if allow else "reject"
    kinds = (f"{word}_always", f"{word}_once") if always else (f"{word}_once", f"{word}_always")
    offered = {kind: id for id, _, kind in reversed(wanted.options)}
    return next((offered[kind] for kind in kinds if kind in offered), None)
