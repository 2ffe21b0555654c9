from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import make_phase, make_plan, make_task

from holdfast.domain.conditions import ConditionError, evaluate, holds, parse
from holdfast.domain.transitions import PhaseStatus, TaskStatus

VARIABLES = {"NAME": "x", "EMPTY": ""}
TASKS = {"install": "completed", 'odd "key"': "failed"}
PHASES = {"Prepare": "skipped"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("true", True),
        ("not true", False),
        ("not not true", True),
        ('variables.NAME == "x"', True),
        ("variables.NAME=='x'", True),
        ('variables.NAME != "x"', False),
        ('variables.EMPTY == ""', True),
        ('task("install").status == "completed"', True),
        ('task("install").status == "failed"', False),
        ("task('odd \"key\"').status == 'failed'", True),
        (r'task("odd \"key\"").status == "failed"', True),
        ('phase("Prepare").status != "completed"', True),
        ("true or false and false", True),
        ("(true or false) and false", False),
        ("not true or true", True),
        ("not (true or true)", False),
        ("false or\n  false or true", True),
        ('"a" == "b"', False),
        ('task( "install" ) . status == "completed"', True),
    ],
)
def test_a_condition_has_the_answer_that_it_reads_like(source: str, expected: bool) -> None:
    assert evaluate(parse(source), VARIABLES, TASKS, PHASES) is expected


@pytest.mark.parametrize(
    ("source", "offset", "message"),
    [
        ("", 0, "expected something to compare"),
        ("   ", 0, "expected something to compare"),
        ("true and", 8, "expected something to compare"),
        ("true true", 5, "expected 'and', 'or' or the end"),
        ("(true", 5, "expected ')'"),
        ("true)", 4, "expected 'and', 'or' or the end"),
        ("variables.NAME", 14, "expected == or !="),
        ("variables.NAME = 'x'", 15, "unexpected '='"),
        ("variables.NAME == 3", 18, "unexpected '3'"),
        ("variables.NAME == true", 18, "expected something to compare"),
        ("variables NAME", 10, "expected '.'"),
        ("variables.'a' == 'b'", 10, "expected the name of a variable"),
        ("task(install).status == 'failed'", 5, "expected the key of a task in quotes"),
        ("task('a').state == 'failed'", 10, "expected 'status'"),
        ("task('a').status == 'complete'", 20, "'complete' is not a status"),
        ("'done' == phase('a').status", 0, "'done' is not a status"),
        ("__import__('os')", 0, "expected something to compare"),
        ("'open", 0, "no closing quote"),
        ("1 + 1", 0, "unexpected '1'"),
        ("true; true", 4, "unexpected ';'"),
    ],
)
def test_a_mistake_is_told_with_its_place(source: str, offset: int, message: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(source)
    assert message in caught.value.message
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "source", ["variables.NO == 'x'", "task('no').status == 'failed'", "phase('no').status == 'failed'"]
)
def test_a_name_that_is_not_there_has_no_answer(source: str) -> None:
    with pytest.raises(ConditionError, match="there is no"):
        evaluate(parse(source), VARIABLES, TASKS, PHASES)


@pytest.mark.parametrize("source", ["(" * 5000, "not " * 900 + "true", "true or " * 5000 + "true"])
def test_a_huge_condition_is_refused_and_harms_nobody(source: str) -> None:
    with pytest.raises(ConditionError):
        parse(source)


def test_a_condition_sees_the_plan_as_it_is() -> None:
    plan = make_plan(variables={"NAME": "x"})
    phases = [make_phase(0, status=PhaseStatus.COMPLETED), make_phase(1)]
    tasks = [make_task("a", status=TaskStatus.FAILED)]
    source = 'variables.NAME == "x" and task("a").status == "failed" and phase("Phase 0").status == "completed"'
    assert holds(source, plan, phases, tasks)


@given(st.text(alphabet="()=!. \"'andortuefls\\", max_size=60) | st.text(max_size=60))
def test_any_text_is_either_a_condition_or_a_condition_error(source: str) -> None:
    offset = 0
    try:
        evaluate(parse(source), VARIABLES, TASKS, PHASES)
    except ConditionError as error:
        offset = error.offset
    assert 0 <= offset <= len(source)
