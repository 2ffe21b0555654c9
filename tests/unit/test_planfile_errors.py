"""Every mistake in a plan file is told with its exact line and column, and what to do."""

# ruff: noqa: E501 - a line and its whole message belong together

from __future__ import annotations

import pytest

from holdfast.domain.planfile import parse
from holdfast.errors import UsageError

GOOD = "title: T\nphases:\n- title: P\n  tasks:\n  - title: A\n    run: x\n"


def problems(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse(text, source="f")
    assert caught.value.code == "plan_file"
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value.message.splitlines()


def only(text: str) -> str:
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


def with_plan(line: str) -> str:
    """A good plan with one more line, its 7th, at the level of the plan."""
    return GOOD + line + "\n"


def with_phase(line: str) -> str:
    """… its 4th, in the phase, at column 3."""
    return GOOD.replace("  tasks:", f"  {line}\n  tasks:")


def with_task(line: str) -> str:
    """… its 7th, in the task, at column 5."""
    return GOOD + f"    {line}\n"


def test_the_good_plan_is_good() -> None:
    assert parse(GOOD, source="f").phases[0].tasks[0].key == "a"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("titel: x", "f:7:1: a plan has no key 'titel' (did you mean 'title'?)"),
        ("title: x", "f:7:1: the key 'title' is here twice, first in line 1 (remove one of them)"),
        ("gates: [result, pla]", "f:7:17: `gates` cannot be 'pla' (did you mean 'plan'?)"),
        ("gates: [plan, plan]", "f:7:15: `gates` has 'plan' twice (remove one)"),
        ("gates: plan", "f:7:8: `gates` has to be a list, this is a text (write `gates: [ … ]`)"),
        ("gate_order: x", "f:7:13: `gate_order` cannot be 'x' (known: approve_then_review, review_then_approve)"),
        ("review: yes", "f:7:9: `review` has to be true or false, not 'yes' (write true or false)"),
        ("description: ''", "f:7:14: `description` is empty (write something, or remove the key)"),
        ("description:", "f:7:1: `description` has to be a single value, this is nothing (write it, or remove the key)"),
        ("slug: My Plan", "f:7:7: 'My Plan' cannot be a slug (e.g. my-plan: lower-case letters, digits and hyphens, at most 60)"),
        ("base: -x", "f:7:7: '-x' is no branch or commit (e.g. main, or a commit's hash)"),
        ("base: a..b", "f:7:7: 'a..b' is no branch or commit (e.g. main, or a commit's hash)"),
        ("verify: [a, '']", "f:7:13: an item of `verify` is empty (write a text)"),
        ("verify: [a: b]", "f:7:10: an item of `verify` is a mapping (put a text that contains ': ' in quotes)"),
        ("verify: ['{{ X }}']", "f:7:11: the variable 'X' is not defined (define it under `variables:`)"),
        ("budget: 3", "f:7:9: a budget is a mapping, this is a text (write keys under it, e.g. max_seconds: …)"),
        ("budget: {max_second: 3}", "f:7:10: a budget has no key 'max_second' (did you mean 'max_seconds'?)"),
        ("budget: {max_seconds: soon}", "f:7:23: `max_seconds` is no duration: 'soon' (seconds, or 90s, 15m, 1h30m, 2d)"),
        ("budget: {max_tokens: 1.5}", "f:7:22: `max_tokens` has to be a whole number, not '1.5' (1 to 1000000000000000)"),
        ("budget: {max_tokens: -1}", "f:7:22: `max_tokens` cannot be -1 (1 to 1000000000000000)"),
        ("budget: {max_cost_usd: -2}", "f:7:24: `max_cost_usd` has to be more than 0 (remove the key for no limit)"),
        ("budget: {max_cost_usd: nan}", "f:7:24: `max_cost_usd` has to be a number, not 'nan' (e.g. 2.50)"),
        ("budget: {max_cost_usd: 1e999}", "f:7:24: `max_cost_usd` has to be more than 0 (remove the key for no limit)"),
        ("variables: [a]", "f:7:12: `variables` has to be a mapping, this is a list (write `NAME: value`)"),
        ("variables: {a-b: c}", "f:7:13: 'a-b' cannot name a variable (did you mean 'A_B'?)"),
        ("variables: {A: [1]}", "f:7:16: the variable A is a list, not a text (write \"\" for empty)"),
        ("defaults: {timeout: 0}", "f:7:21: `timeout` has to be more than 0 and at most a year (remove the key for no limit)"),
        ("phases: []", "f:7:1: the key 'phases' is here twice, first in line 2 (remove one of them)"),
        ("[a]: b", "f:7:1: a key has to be a word (write `key: value`)"),
        ("<<: {review: true}", "f:7:1: merge keys (<<) are not supported (use `defaults:`)"),
        ("agent: !python/object x", "f:7:8: the tag !python/object has no meaning here (remove it)"),
        ('agent: "a\\0b"', "f:7:8: the character U+0000 cannot be part of a plan (remove it)"),
        ('agent: "a\\ud800b"', "f:7:8: the character U+D800 cannot be part of a plan (remove it)"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_plan(line: str, expected: str) -> None:
    assert only(with_plan(line)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mode: paralel", "f:4:9: `mode` cannot be 'paralel' (did you mean 'parallel'?)"),
        ("pause_after: 1", "f:4:16: `pause_after` has to be true or false, not '1' (write true or false)"),
        ("colour: 1", "f:4:3: a phase has no key 'colour' (known: title, mode, pause_after, when, tasks)"),
        ("when: true and", "f:4:17: the condition is wrong: expected something to compare, found the end "),
        ("when: '  variables.X == \"a\"'", "f:4:12: the variable 'X' is not defined (define it under `variables:`)"),
        ("when: task('a').status == 'failed'", "f:4:9: no task of an earlier phase has the key 'a'"),
        ("when: true or phase('P').status == 'failed'", "f:4:17: no earlier phase has the title 'P'"),
        ("when: |\n    true\n    or tru", "f:6:8: the condition is wrong: expected something to compare, found tru "),
    ],
)
def test_a_mistake_in_a_phase(line: str, expected: str) -> None:
    found = only(with_phase(line))
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("instructions: y", "f:6:10: a task has `instructions` or `run`, not both (make it two tasks)"),
        ("agent: y", "f:7:12: a task with `run` needs no agent (remove `agent`)"),
        ("key: a b", "f:7:10: 'a b' cannot be a key (letters, digits, '.', '_' and '-', at most 80, a letter or digit first)"),
        ("depends_on: [b]", "f:7:18: no task has the key 'b' (known: a)"),
        ("depends_on: b", "f:7:17: `depends_on` has to be a list, this is a text (write `depends_on: [ … ]`)"),
        ("depends_on: [a]", "f:7:18: the tasks depend on each other in a circle: a → a (remove one of the dependencies)"),
        ("max_attempts: 0", "f:7:19: `max_attempts` cannot be 0 (1 to 100)"),
        ("max_attempts: 101", "f:7:19: `max_attempts` cannot be 101 (1 to 100)"),
        ("max_attempts: two", "f:7:19: `max_attempts` has to be a whole number, not 'two' (1 to 100)"),
        ("timeout: 5 minutes", "f:7:14: `timeout` is no duration: '5 minutes' (seconds, or 90s, 15m, 1h30m, 2d)"),
        ("timeout: -5", "f:7:14: `timeout` has to be more than 0 and at most a year (remove the key for no limit)"),
        ("timeout: [5]", "f:7:14: `timeout` has to be a single value, this is a list (write it, or remove the key)"),
        ("retryable: no", "f:7:16: `retryable` has to be true or false, not 'no' (write true or false)"),
        ("verify:\n    - ok\n    - |\n      echo {{ X }}", "f:10:12: the variable 'X' is not defined (define it under `variables:`)"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_task(line: str, expected: str) -> None:
    assert only(with_task(line)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f:1:1: the file is empty (write `title:` and `phases:`)"),
        ("# nothing\n", "f:1:1: the file is empty (write `title:` and `phases:`)"),
        ("- x", "f:1:1: a plan is a mapping, this is a list (write `title: …`)"),
        ("just text", "f:1:1: a plan is a mapping, this is a text (write `title: …`)"),
        ("title: T", "f:1:1: this plan has no `phases` (add `phases:` with at least one phase)"),
        ("title: T\nphases: []", "f:2:9: `phases` has to be a list with at least one phase, this is empty (add a phase)"),
        ("title: T\nphases:", "f:2:1: `phases` has to be a list with at least one phase, this is empty (add a phase)"),
        ("title: T\nphases: x", "f:2:9: `phases` has to be a list with at least one phase, this is a text (add a phase)"),
        ("title: T\nphases:\n- P", "f:3:3: a phase is a mapping, this is a text (write keys under it, e.g. title: …)"),
        ("title: T\nphases:\n- title: P", "f:3:3: this phase has no `tasks` (add `tasks:` with at least one task)"),
        ("title: T\nphases:\n- title: P\n  tasks: []", "f:4:10: `tasks` has to be a list with at least one task, this is empty (add a task)"),
        ("title: T\nphases:\n- title: P\n  tasks: [x]", "f:4:11: a task is a mapping, this is a text (write keys under it, e.g. title: …)"),
        (GOOD.replace("title: T", "title: ' '"), "f:1:8: `title` is empty (write something, or remove the key)"),
        (GOOD.replace("title: T\n", ""), "f:1:1: this plan has no `title` (add `title: …`)"),
        (GOOD.replace("title: T", "title: " + "x" * 201), "f:1:8: `title` is longer than 200 characters (shorten it)"),
        (GOOD.replace("title: T", 'title: "a\\nb"'), "f:1:8: `title` has more than one line (make it one line)"),
        (GOOD.replace("title: A", "title: '!'"), "f:5:12: no key can be made of the title '!' (add `key: …`)"),
        (GOOD.replace("    run: x\n", ""), "f:5:5: this task has neither `instructions` nor `run` (`instructions:` is for an agent, `run:` is a command)"),
        (GOOD + "  - title: a\n    run: x\n", "f:7:12: the key 'a' is already that of the task in line 5 (give one of them another `key:`)"),
        ("a: 1\n---\nb: 2", "f:2:1: a second document starts here (one plan per file)"),
        ("title: T\n\tx: y", "f:2:1: a tab in the indentation (indent with spaces)"),
        ("title: T: U", "f:1:9: broken YAML: mapping values are not allowed here (put a text that contains ': ' in quotes, or check the indentation)"),
        ("title: @x", "f:1:8: broken YAML: character '@' that cannot start any token while scanning for the next token (put the text in quotes)"),
        ("title: 'x", "f:1:10: broken YAML: unexpected end of stream while scanning a quoted scalar (check quotes, colons and indentation)"),
        ("title: a\x00b", "f:1:9: the character U+0000 is not allowed in a text file (remove it, or save the file as UTF-8)"),
        ("title: T\n  \x1b[0m", "f:2:3: the character U+001B is not allowed in a text file (remove it, or save the file as UTF-8)"),
        ("title: *x", "f:1:8: the alias *x points at nothing (write &x before it)"),
        ("title: &x [*x]", "f:1:12: the alias *x points at nothing (an anchor cannot contain itself)"),
        ("[" * 50_000, "f:1:22: nested deeper than 20 levels (make it flatter)"),
        ("#" * ((4 << 20) + 1), "f:1:1: the file has 4194305 characters, more than 4194304 (split the plan)"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_plan(text: str, expected: str) -> None:
    assert only(text) == expected


def test_aliases_cannot_blow_up_the_plan() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    assert only(text).endswith("more than 200000 values, aliases counted each time (split the plan)")


def test_aliases_cannot_nest_for_ever() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 30))
    assert only(text).endswith("nested deeper than 20 levels (make it flatter)")


def test_a_cycle_is_shown() -> None:
    task = "  - {{title: {0}, run: x, depends_on: [{1}]}}\n"
    text = "title: T\nphases:\n- title: P\n  tasks:\n" + "".join(task.format(*pair) for pair in ("ab", "bc", "ca"))
    expected = "f:5:37: the tasks depend on each other in a circle: a → b → c → a (remove one of the dependencies)"
    assert only(text) == expected


def test_a_dependency_on_a_later_phase_is_told_with_that_phase() -> None:
    later = "- title: Q\n  tasks:\n  - title: B\n    run: x\n"
    expected = (
        "f:7:18: 'a' depends on 'b', which is in the later phase 'Q' (move one of them, or remove the dependency)"
    )
    assert only(with_task("depends_on: [b]") + later) == expected


def test_a_condition_cannot_name_one_of_several_phases_with_one_title() -> None:
    phase = "- title: P\n  tasks: [{title: A%s, run: x}]\n"
    text = "title: T\nphases:\n" + phase % 1 + phase % 2
    text += "- title: Q\n  when: phase('P').status == 'skipped'\n  tasks: [{title: A3, run: x}]\n"
    assert only(text) == "f:8:9: several phases have the title 'P' (give them different titles)"


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    found = problems("titel: T\nreview: 3\nphases:\n- title: P\n  mode: x\n  tasks:\n  - {title: A}\n")
    assert [line.split(": ")[0] for line in found] == ["f:1:1", "f:1:1", "f:2:9", "f:5:9", "f:7:5"]


def test_a_flood_of_mistakes_is_cut_with_a_count() -> None:
    found = problems(GOOD + "".join(f"k{n}: x\n" for n in range(80)))
    assert len(found) == 51
    assert found[-1] == "f: and 30 more"


def test_a_mark_at_the_beginning_of_the_file_and_windows_lines_do_no_harm() -> None:
    text = "\ufeff" + GOOD.replace("\n", "\r\n")
    assert parse(text, source="f") == parse(GOOD, source="f")
    assert only("\ufeff" + with_plan("titel: x").replace("\n", "\r\n")).startswith("f:7:1:")
