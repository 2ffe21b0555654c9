"""The help: complete, with examples, and cheap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from holdfast.cli.grammar import Noun
from holdfast.cli.program import COMMANDS, holdfast

HEAVY = ("sqlalchemy", "alembic", "dbos", "rich", "pydantic", "pydantic_settings", "ruamel", "psycopg", "asyncio")


def commands(
    group: click.Group = holdfast, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


EVERY = dict(commands())


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_has_a_summary_an_example_and_described_options(path: tuple[str, ...]) -> None:
    command = EVERY[path]
    shown = CliRunner().invoke(holdfast, [*path, "--help"], prog_name="holdfast").output
    assert command.get_short_help_str(limit=200).endswith("."), "a summary is a sentence"
    assert "Example:" in shown
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
    example = shown.split("Example:")[1].strip().splitlines()[0]
    assert "holdfast " + " ".join(path) in example or isinstance(command, click.Group)


def test_the_table_of_commands_says_what_the_commands_say() -> None:
    for name, (_, summary) in COMMANDS.items():
        command = EVERY[(name,)]
        assert command.get_short_help_str(limit=200) == summary, name


def test_every_example_parses() -> None:
    for path, command in EVERY.items():
        for line in command.example.strip().splitlines():  # type: ignore[attr-defined]
            words = line.split(" # ")[0].split("  ")[0].split()
            if words[:1] != ["holdfast"] or words[1 : 1 + len(path)] != list(path) or isinstance(command, Noun):
                continue
            rest = [word for word in words[1 + len(path) :] if word != ">"]
            command.make_context(" ".join(path), rest, resilient_parsing=True)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, json\n"
        "from holdfast.cli.main import run\n"
        f"codes = [run([*path, '--help']) for path in {[[], *map(list, EVERY)]!r}]\n"
        f"print(json.dumps([codes, sorted(set(sys.modules) & set({HEAVY!r}))]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    codes, loaded = json.loads(done.stdout.splitlines()[-1])
    assert set(codes) == {0}
    assert loaded == []


def test_completion_scripts_are_printed_for_each_shell() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", "completion", shell], capture_output=True, text=True, check=True
        )
        assert "_HOLDFAST_COMPLETE" in done.stdout


def test_a_shell_is_told_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'holdfast'; from holdfast.cli.main import main; main()"],
        env=os.environ | {"_HOLDFAST_COMPLETE": "bash_complete", "COMP_WORDS": "holdfast st", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == {"stats", "status", "step", "steps"}
