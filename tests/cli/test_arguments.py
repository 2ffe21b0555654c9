"""What the command line accepts and how it refuses the rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click
import pytest

from holdfast import clock
from holdfast.cli.grammar import pairs
from holdfast.cli.main import run
from holdfast.cli.timeline_commands import Moment


def test_an_unknown_command_is_a_usage_error_with_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["statuss"]) == 2
    assert capsys.readouterr().err == "error: holdfast has no command 'statuss'\nhint: did you mean 'status'?\n"


def test_an_unknown_command_of_a_group_is_a_usage_error_with_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "exprot"]) == 2
    assert "did you mean 'export'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["run"], ["run", "a.yaml", "--nope"], ["steps", "--limit", "0"], ["plan", "list", "--status", "odd"]]
)
def test_wrong_arguments_are_usage_errors_that_name_the_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "--help" in said.err


@pytest.mark.parametrize("words", [["--json", "steps", "--limit", "x"], ["steps", "--limit", "x", "--json"]])
def test_with_json_an_error_is_one_object_wherever_the_option_stands(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "usage"
    assert set(error) == {"code", "message", "hint"}


@pytest.mark.parametrize(
    "words", [["undo", "--plan", ""], ["gc", "--project", "", "--yes"], ["timeline", "--task", ""]]
)
def test_an_empty_name_is_refused_and_does_not_mean_everything(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert "nothing is named" in capsys.readouterr().err


def test_a_noun_alone_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trash"]) == 2
    assert capsys.readouterr().err.startswith("Usage: holdfast trash")


def test_a_variable_is_a_name_and_a_value() -> None:
    assert pairs(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    for wrong in ("A", "=1"):
        with pytest.raises(click.BadParameter):
            pairs([wrong])


def test_a_time_is_a_moment_or_so_long_ago() -> None:
    assert Moment().convert("2026-03-01T12:30+00:00", None, None) == datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert Moment().convert("2026-03-01", None, None).tzinfo is not None
    ago = clock.now() - Moment().convert("2h", None, None)
    assert 7190 < ago.total_seconds() < 7210
    assert f"{Moment().convert('9:05', None, None):%H:%M}" == "09:05"
    for wrong in ("yesterday", "2026-13-01", "99999999999d", ""):
        with pytest.raises(click.BadParameter):
            Moment().convert(wrong, None, None)


def test_a_time_that_is_none_is_named_as_it_was_typed() -> None:
    with pytest.raises(click.BadParameter, match="'25:00' is not a time"):
        Moment().convert("25:00", None, None)
