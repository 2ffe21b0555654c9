from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.builders import NOW

from holdfast.domain import permissions
from holdfast.domain.conversation import Heard, PermissionWanted, ToolUsed
from holdfast.domain.permissions import Policy, PolicyWord, Rule, Verdict, decide, in_force, read
from holdfast.errors import UsageError

TREE = "/work/tree"
ALLOW, REJECT, ASK = Verdict.ALLOW, Verdict.REJECT, Verdict.ASK
SPECIAL = list(";&|`$()<>\n\r\0")


def call(kind: str | None = "execute", command: Any = None, **fields: Any) -> ToolUsed:
    given: Mapping[str, Any] | None = None if command is None else {"command": command}
    return ToolUsed(Heard(1, NOW), "call", kind=kind, **({"input": given} | fields))


def edit(*paths: str, kind: str = "edit") -> ToolUsed:
    return call(kind, paths=list(paths))


def policy(*entries: object) -> Policy:
    return read(list(entries))


# -- commands --------------------------------------------------------------------------------------------------------

TEST = policy({"allow": "execute", "command": "npm test*"})


@pytest.mark.parametrize("command", ["npm test", "npm test -- --watch=false", " npm test ", ["npm", "test", "-x"]])
def test_a_pattern_allows_the_commands_that_it_matches(command: str | list[str]) -> None:
    assert decide(TEST, call(command=command), TREE) is ALLOW


@pytest.mark.parametrize(
    "command",
    [
        "npm test; rm -rf /",
        "npm test && rm -rf /",
        "npm test | sh",
        "npm test & rm x",
        "npm test $(rm x)",
        "npm test `rm x`",
        "npm test > ~/.bashrc",
        "npm test <(rm x)",
        "npm test\nrm x",
        "npm test '; rm x'",
        "rm x; npm test",
        "xnpm test",
        "npm\ttest",
    ],
)
def test_a_pattern_does_not_allow_what_hangs_on_to_a_command_that_it_matches(command: str) -> None:
    assert decide(TEST, call(command=command), TREE) is ASK
    assert decide(TEST, call(command=["bash", "-lc", command]), TREE) is ASK


def test_what_the_pattern_writes_out_itself_may_be_compound() -> None:
    both = policy({"allow": "execute", "command": "make * && make test > log"})
    assert decide(both, call(command="make build && make test > log"), TREE) is ALLOW
    assert decide(both, call(command="make build; x && make test > log"), TREE) is ASK
    assert decide(both, call(command="make build && make test > log; x"), TREE) is ASK


PIECES = st.sampled_from(["npm", " ", "test", "*", "?", "[ab]", "[!x]", "a", ".", "(", "[", "\\", "é"])
PATTERNS = st.lists(PIECES, min_size=1, max_size=8).map("".join).filter(str.strip)
COMMANDS = st.text(st.sampled_from([*"npm tesab.x*?[]\\é", *SPECIAL]), max_size=20)


@given(PATTERNS, COMMANDS)
@example("*", "a\nb")
def test_an_allowed_command_has_no_special_character_that_its_pattern_does_not_write(
    pattern: str, command: str
) -> None:
    rule = policy({"allow": "execute", "command": pattern})
    if decide(rule, call(command=command), TREE) is ALLOW:
        written = [each for each in pattern if each in SPECIAL]
        assert [each for each in command.strip() if each in SPECIAL] == written


@given(st.sampled_from(["npm test*", "npm *", "*", "?pm test*", "n*m*t*t*"]), st.sampled_from(SPECIAL), COMMANDS)
def test_nothing_can_be_appended_to_an_allowed_command(pattern: str, special: str, more: str) -> None:
    rule = policy({"allow": "execute", "command": pattern})
    assert decide(rule, call(command=f"npm test{special}{more}x"), TREE) is ASK


@given(COMMANDS.filter(str.strip))
@example("rm *; [a-z] ?")
def test_a_remembered_call_is_allowed_again_and_nothing_else_is(command: str) -> None:
    remembered = Policy(permissions.allowing("execute", command, ()))
    assert decide(remembered, call(command=command), TREE) is ALLOW
    assert decide(remembered, call(command=command + " x"), TREE) is ASK
    assert decide(remembered, call("fetch", command), TREE) is ASK


def test_a_remembered_path_is_meant_literally() -> None:
    remembered = Policy(permissions.allowing("edit", "", ["a[1]*.txt"]))
    assert decide(remembered, edit("a[1]*.txt"), TREE) is ALLOW
    assert decide(remembered, edit("a1.txt"), TREE) is ASK
    assert permissions.allowing("fetch", "", ()) == ()


@pytest.mark.parametrize("command", ["rm -rf /", "true; rm -rf /", "x=$(rm y)", "true && rm y", "(rm y)", "a\nrm b"])
def test_a_rejecting_rule_fits_every_part_of_a_compound_command(command: str) -> None:
    rules = policy({"reject": "execute", "command": "rm *"}, "allow-all")
    assert decide(rules, call(command=command), TREE) is REJECT
    assert decide(rules, call(command="farm x"), TREE) is ALLOW


def test_a_title_that_looks_like_a_command_allows_nothing_and_is_rejected_all_the_same() -> None:
    assert decide(TEST, call(title="npm test"), TREE) is ASK
    assert decide(policy({"reject": "*", "command": "rm *"}, "allow-all"), call(title="rm x"), TREE) is REJECT


def test_arguments_that_are_told_apart_belong_to_the_command() -> None:
    told = call(input={"command": "npm", "args": ["run", "evil"]})
    assert decide(policy({"allow": "execute", "command": "npm"}), told, TREE) is ASK
    assert decide(policy({"allow": "execute", "command": "npm run *"}), told, TREE) is ALLOW


def test_a_set_that_is_none_stands_for_itself() -> None:
    assert decide(policy({"allow": "execute", "command": "x[z-a]"}), call(command="x[z-a]"), TREE) is ALLOW


def test_a_long_command_is_judged_at_once() -> None:
    rule = policy({"allow": "execute", "command": "*a*a*a*a*a*b"})
    assert decide(rule, call(command="a" * 200_000), TREE) is ASK


# -- paths -----------------------------------------------------------------------------------------------------------


def test_an_allowing_rule_needs_all_paths_and_the_others_one() -> None:
    rules = policy({"reject": "edit", "path": ".github/*"}, {"allow": "edit", "path": "src/*"})
    assert decide(rules, edit("src/a.py", f"{TREE}/src/b/c.py"), TREE) is ALLOW
    assert decide(rules, edit("src/a.py", "README"), TREE) is ASK
    assert decide(rules, edit("src/a.py", ".github/workflows/x"), TREE) is REJECT
    assert decide(rules, edit("src/../.github/x"), TREE) is REJECT
    assert decide(rules, edit(), TREE) is ASK


def test_what_lies_outside_fits_only_a_pattern_that_names_it() -> None:
    assert decide(policy({"allow": "edit", "path": "*"}), edit("/etc/passwd"), TREE) is ASK
    assert decide(policy({"allow": "edit", "path": "*"}), edit("../x"), TREE) is ASK
    assert decide(policy({"allow": "edit", "path": "/etc/*"}), edit("/etc/passwd"), TREE) is ALLOW
    assert decide(policy({"allow": "edit", "path": "/*"}), edit("inside"), TREE) is ASK


@pytest.mark.parametrize(
    ("wanted", "verdict"),
    [
        (edit("a.txt"), ALLOW),
        (edit(f"{TREE}/a.txt", kind="delete"), ALLOW),
        (call("think"), ALLOW),
        (edit(), ASK),
        (edit("../a.txt"), ASK),
        (edit(f"{TREE}x/a.txt"), ASK),
        (call("execute", "ls"), ASK),
        (call("fetch"), ASK),
        (call(None), ASK),
    ],
)
def test_allow_edits_allows_what_stays_in_the_worktree(wanted: ToolUsed, verdict: Verdict) -> None:
    assert decide(policy("allow-edits"), wanted, TREE) is verdict


# -- policies --------------------------------------------------------------------------------------------------------


def test_the_nearest_policy_that_says_something_decides() -> None:
    task = policy({"reject": "execute", "command": "make deploy"})
    plan = policy({"allow": "execute", "command": "make *"})
    whole = in_force(task, plan, None, policy("allow-edits"), policy("allow-all"))
    assert decide(whole, call(command="make deploy"), TREE) is REJECT
    assert decide(whole, call(command="make test"), TREE) is ALLOW
    assert decide(whole, edit("a"), TREE) is ALLOW
    assert decide(whole, call(command="ls"), TREE) is ASK
    assert in_force(policy("ask"), plan) == permissions.ASK_ALL
    assert in_force() == permissions.ASK_ALL


def test_a_rule_that_is_added_is_asked_first_and_stands_once() -> None:
    rule = Rule(ALLOW, "execute", "make")
    before = policy({"reject": "execute"}, "ask")
    once = permissions.with_rules(before, [rule])
    assert once == Policy((rule, Rule(REJECT, "execute")), PolicyWord.ASK)
    assert permissions.with_rules(once, [rule]) == once
    assert permissions.with_rules(None, [rule]) == Policy((rule,))


RULES = st.builds(
    Rule, st.sampled_from(Verdict), st.sampled_from(permissions.KINDS), st.sampled_from(["", "x *"]), st.just("")
)
POLICIES = st.builds(Policy, st.lists(RULES, max_size=3).map(tuple), st.none() | st.sampled_from(PolicyWord)).filter(
    lambda made: made != Policy()
)


@given(POLICIES)
def test_a_policy_as_plain_values_reads_as_the_same(made: Policy) -> None:
    assert read(permissions.plain(made)) == made


@pytest.mark.parametrize(
    "given",
    [
        "alow-all",
        "",
        [],
        7,
        None,
        {"allow": "exec"},
        [{"allow": "execute", "reject": "edit"}],
        [{"command": "x"}],
        [{"allow": "execute", "commands": "x"}],
        [{"allow": "execute", "command": ""}],
        [{"allow": 7}],
        ["ask", {"allow": "execute"}],
        ["ask", "ask"],
        [["ask"]],
    ],
)
def test_what_is_no_policy_is_refused(given: object) -> None:
    with pytest.raises(UsageError):
        read(given)


OPTIONS = (("a", "", "allow_once"), ("b", "", "allow_always"), ("c", "", "reject_once"))


@pytest.mark.parametrize(
    ("offered", "allow", "always", "chosen"),
    [
        (OPTIONS, True, False, "a"),
        (OPTIONS, True, True, "b"),
        (OPTIONS, False, False, "c"),
        (OPTIONS[:1], True, True, "a"),
        (OPTIONS[:2], False, False, None),
    ],
)
def test_the_answer_is_one_of_the_agents_options(
    offered: Sequence[tuple[str, str, str]], allow: bool, always: bool, chosen: str | None
) -> None:
    wanted = PermissionWanted(Heard(1, NOW), "r", call(), tuple(offered))
    assert permissions.option(wanted, allow=allow, always=always) == chosen
