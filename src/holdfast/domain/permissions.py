"""What an agent may do without a person: the policy that its questions are answered from.

A policy is a list of rules of which the first that fits decides, a word that decides everything else, or both. Where it
says neither, the next policy is asked: that of the task, the plan, the agent, the project, the settings, in this order.
It speaks about what an agent asks; what one does without asking is kept in by the sandbox alone.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import cast

from holdfast.domain.conversation import PermissionWanted, ToolUsed
from holdfast.domain.words import did_you_mean
from holdfast.errors import UsageError

KINDS = ("read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other", "*")
_WRITES = frozenset({"edit", "delete", "move"})
_EDITS = _WRITES | {"read", "search", "think"}


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
    """One rule. It speaks about calls of `kind` (ACP's: read, edit, execute, fetch …; `*` = any) whose command matches
    `command` and whose paths match `path` (shell patterns; empty = any).

    Where there is doubt, an allowing rule does not fit and the others do: to be allowed, all paths have to match, and
    the command as a whole, in which a wildcard stands for nothing that the shell treats specially. For the others one
    path is enough, or one command of a compound one. Paths are as they are below the worktree, and `*` goes across `/`;
    what lies outside fits only a `path` that begins with `/`.
    """

    verdict: Verdict
    kind: str = "*"
    command: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in their order, and what is done where none of them fits; None = the next policy says."""

    rules: tuple[Rule, ...] = ()
    otherwise: PolicyWord | None = None


ASK_ALL = Policy(otherwise=PolicyWord.ASK)
# Looking is allowed, nothing else is, and nobody is asked.
READ_ONLY = Policy(
    (
        Rule(Verdict.ALLOW, "read"),
        Rule(Verdict.ALLOW, "search"),
        Rule(Verdict.ALLOW, "think"),
        Rule(Verdict.REJECT),
    )
)


# -- reading and writing ---------------------------------------------------------------------------------------------


def read(given: object) -> Policy:
    """Gives the policy that plain values say: a word, or a list of rules and perhaps a word; raises `UsageError`."""
    if isinstance(given, Policy):
        return given
    if isinstance(given, str) or not isinstance(given, Sequence):
        return made_of([entry(given)])
    return made_of([entry(each) for each in cast("Sequence[object]", given)])


def made_of(entries: Sequence[Rule | PolicyWord]) -> Policy:
    """Gives the policy of these rules and perhaps a word, which has to be the last; raises `UsageError`."""
    rules = tuple(each for each in entries if isinstance(each, Rule))
    word = entries[-1] if entries and isinstance(entries[-1], PolicyWord) else None
    if not entries or len(rules) + (word is not None) != len(entries):
        problem = "there is no rule" if not entries else "what comes after a word would never be asked"
        raise UsageError(problem, hint=f"a word ({', '.join(PolicyWord)}), or rules and at their end perhaps a word")
    return Policy(rules, word)


_VERDICTS = tuple(str(each) for each in Verdict)


def entry(given: object) -> Rule | PolicyWord:
    """Reads a word, or `{allow: execute, command: "npm *"}`: the verdict with the kind of tool, and what narrows it."""
    if isinstance(given, str):
        if given in set(PolicyWord):
            return PolicyWord(given)
        todo = did_you_mean(given, map(str, PolicyWord)) or "a rule is {allow: execute, command: PATTERN}"
        raise UsageError(f"{given!r} is no permission policy", hint=todo)
    entries: Mapping[str, object] = cast("Mapping[str, object]", given) if isinstance(given, Mapping) else {}
    verdicts = [key for key in _VERDICTS if key in entries]
    unknown = [key for key in entries if key not in (*_VERDICTS, "command", "path")]
    texts = all(isinstance(value, str) and value.strip() for value in entries.values())
    if len(verdicts) != 1 or unknown or not texts:
        raise UsageError(
            f"{repr(cast(object, given))[:200]} is no rule of a permission policy",
            hint="write {allow: KIND}, {reject: KIND} or {ask: KIND} (KIND as execute, edit, fetch or *), "
            "with command: PATTERN and path: PATTERN where it is narrower",
        )
    kind = str(entries[verdicts[0]])
    if kind not in KINDS:
        raise UsageError(f"there is no kind of tool {kind!r}", hint=did_you_mean(kind, KINDS) or ", ".join(KINDS))
    return Rule(Verdict(verdicts[0]), kind, str(entries.get("command", "")), str(entries.get("path", "")))


def plain(policy: Policy) -> str | list[object]:
    """Gives a policy as the plain values that `read` reads."""
    rules: list[object] = [
        {str(rule.verdict): rule.kind}
        | ({"command": rule.command} if rule.command else {})
        | ({"path": rule.path} if rule.path else {})
        for rule in policy.rules
    ]
    if policy.otherwise is None:
        return rules
    return [*rules, str(policy.otherwise)] if rules else str(policy.otherwise)


def in_force(*policies: Policy | None) -> Policy:
    """Gives the one policy that several amount to, the nearest first; what none of them decides is asked."""
    rules: list[Rule] = []
    for policy in policies:
        if policy is None:
            continue
        rules += policy.rules
        if policy.otherwise is not None:
            return Policy(tuple(rules), policy.otherwise)
    return Policy(tuple(rules), PolicyWord.ASK)


# -- deciding --------------------------------------------------------------------------------------------------------


def decide(policy: Policy, call: ToolUsed, worktree: str) -> Verdict:
    """Says whether a call is allowed, rejected, or has to be asked about."""
    for rule in policy.rules:
        if fits(rule, call, worktree):
            return rule.verdict
    match policy.otherwise:
        case PolicyWord.ALLOW_ALL:
            return Verdict.ALLOW
        case PolicyWord.ALLOW_EDITS if _edits_inside(call, worktree):
            return Verdict.ALLOW
        case _:
            return Verdict.ASK


def _edits_inside(call: ToolUsed, worktree: str) -> bool:
    paths = paths_of(call, worktree)
    told = bool(paths) or call.kind not in _WRITES
    return call.kind in _EDITS and told and not any(map(posixpath.isabs, paths))


def fits(rule: Rule, call: ToolUsed, worktree: str) -> bool:
    """Tells whether a rule speaks about a call."""
    if rule.kind not in ("*", call.kind or "other"):
        return False
    allows = rule.verdict is Verdict.ALLOW
    if rule.command and not (_allows_command(rule.command, call) if allows else _meets_command(rule.command, call)):
        return False
    if not rule.path:
        return True
    matches = [_path_matches(path, rule.path) for path in paths_of(call, worktree)]
    return bool(matches) and (all(matches) if allows else any(matches))


def _path_matches(path: str, pattern: str) -> bool:
    return posixpath.isabs(path) == posixpath.isabs(pattern) and fnmatchcase(path, pattern)


# What begins another command, puts one inside another, or sends its output elsewhere: a wildcard never stands for it,
# also not between quotes, since only the shell that will run it could say what is quoted.
_SPECIAL = r";&|`$()<>\n\r\0"
_PARTS = re.compile(r"[;&|`(){}\n\r]")


def _allows_command(pattern: str, call: ToolUsed) -> bool:
    told = command_of(call)
    return told is not None and _pattern(pattern.strip(), rf"[^{_SPECIAL}]").fullmatch(told.strip()) is not None


def _meets_command(pattern: str, call: ToolUsed) -> bool:
    whole = command_of(call) or call.title or ""
    wanted = _pattern(pattern.strip(), r"[\s\S]")
    return any(wanted.fullmatch(part.strip()) for part in (whole, *_PARTS.split(whole)))


@lru_cache(maxsize=256)
def _pattern(pattern: str, wild: str) -> re.Pattern[str]:
    """Gives a shell pattern (`*`, `?`, `[…]`) whose wildcards stand for characters of the class `wild` only.

    A group after a `*` is atomic: where it fits first is as good as anywhere later, so no command takes long to judge.
    """
    try:
        return re.compile(_expression(pattern, wild))
    except re.error:  # a set that is none, such as [z-a], stands for itself
        return re.compile(re.escape(pattern))


def _expression(pattern: str, wild: str) -> str:
    pieces = [""]
    for part in re.findall(r"\[!?\]?[^\]]*\]|.", pattern, re.DOTALL):
        if part == "*":
            pieces.append("")
        elif part == "?":
            pieces[-1] += wild
        elif len(part) > 1:
            negated, members = part[1] == "!", part[2:-1] if part[1] == "!" else part[1:-1]
            pieces[-1] += f"(?={wild})" * negated + f"[{'^' * negated}{_escaped_class(members)}]"
        else:
            pieces[-1] += re.escape(part)
    first, *later = pieces
    if not later:
        return first
    *middle, last = later
    return first + "".join(f"(?>{wild}*?{piece})" for piece in middle) + f"{wild}*{last}"


def _escaped_class(members: str) -> str:
    return re.sub(r"([\\\]\[^&~|])", r"\\\1", members)


_SHELLS = frozenset({"sh", "bash", "zsh", "dash"})


def command_of(call: ToolUsed) -> str | None:
    """Gives the command that a call would run, None where the agent does not tell it: agents name it differently."""
    given = call.input or {}
    for name in ("command", "cmd", "script"):
        value = given.get(name)
        if isinstance(value, str):
            return " ".join((value, *_words(given.get("args"))))
        words = _words(value)
        if len(words) == 3 and posixpath.basename(words[0]) in _SHELLS and words[1] in ("-c", "-lc"):
            return words[2]
        if words:
            return " ".join(words)
    return None


def _words(value: object) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return []
    return [str(part) for part in cast("Sequence[object]", value)]


_PATH_NAMES = ("path", "file_path", "filePath", "filepath", "abs_path", "filename")


def paths_of(call: ToolUsed, worktree: str) -> tuple[str, ...]:
    """Gives the paths of a call, normalised; relative ones lie in the worktree, absolute ones outside."""
    given: Mapping[str, object] = call.input or {}
    told = [given[name] for name in _PATH_NAMES if name in given]
    named = [*(call.paths or ()), *(diff.path for diff in call.diffs or ()), *(p for p in told if isinstance(p, str))]
    return tuple(dict.fromkeys(_below(path, worktree) for path in named))


def _below(path: str, worktree: str) -> str:
    whole = posixpath.normpath(posixpath.join(worktree, path))
    root = posixpath.normpath(worktree)
    return posixpath.relpath(whole, root) if whole == root or whole.startswith(root + "/") else whole


# -- answering -------------------------------------------------------------------------------------------------------


def option(wanted: PermissionWanted, *, allow: bool, always: bool = False) -> str | None:
    """Gives the id of the agent's option that says it, for this once if it can be; None if it offers none."""
    word = "allow" if allow else "reject"
    kinds = (f"{word}_always", f"{word}_once") if always else (f"{word}_once", f"{word}_always")
    offered = {kind: id for id, _, kind in reversed(wanted.options)}
    return next((offered[kind] for kind in kinds if kind in offered), None)


def allowing(kind: str, command: str, paths: Iterable[str]) -> tuple[Rule, ...]:
    """Gives rules that allow exactly such a call again, whatever its text has in it; none if it names nothing."""
    if command:
        return (Rule(Verdict.ALLOW, kind, command=_literal(command.strip())),)
    return tuple(Rule(Verdict.ALLOW, kind, path=_literal(path)) for path in paths)


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def with_rules(policy: Policy | None, rules: Sequence[Rule]) -> Policy:
    """Gives the policy with these rules asked before its own."""
    before = policy or Policy()
    return Policy((*rules, *(rule for rule in before.rules if rule not in rules)), before.otherwise)
