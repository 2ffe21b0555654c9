"""The supervisor on the command line: an answer as it comes, as a document, and after the command was killed."""

from __future__ import annotations

import json
import signal
import sys

import pytest
from tests.agents.runs import eventually
from tests.cli.conftest import Program
from tests.planner.models import Reply, model_api

PLAN = "title: Talk\nphases: [{title: Only, tasks: [{title: Work, run: 'true'}]}]\n"


def agent(program: Program, *turns: list[dict[str, object]], **about: object) -> None:
    """Gives the program an agent that plays such turns."""
    script = program.home / "script.json"
    script.write_text(json.dumps({"agent": about, "turns": turns}))
    command = json.dumps([sys.executable, "-m", "holdfast.agents.scripted", str(script)])
    sessions = json.dumps(str(program.home / "sessions"))
    table = f"[robot]\ncommand = {command}\nenvironment = {{HOLDFAST_SCRIPTED_SESSIONS = {sessions}}}\n"
    (program.home / "agents.toml").write_text(table)
    program.environment.update(HOLDFAST_AGENTS=str(program.home / "agents.toml"), HOLDFAST_SUPERVISOR_AGENT="robot")


@pytest.fixture
def planned(ready: Program) -> Program:
    """The program with a draft P1."""
    assert ready("plan", "new", ready.plan(PLAN)).code == 0
    return ready


def messages(program: Program) -> list[tuple[str, str]]:
    items = program("conversation", "show", "P1", "--json").json["items"]
    return [(item["role"], item["content"]) for item in items if item["content"]]


def test_the_answer_is_printed_and_kept(planned: Program) -> None:
    agent(planned, [{"read": "README.md"}, {"say": "It is a \x1b[31mshop"}, {"say": ".\n"}])
    asked = planned("supervisor", "ask", "P1", "What is it?")
    assert (asked.code, asked.out) == (0, "It is a shop.\n"), asked.err
    assert "agent:robot is asked: What is it?" in asked.err
    assert "⚙ Read README.md" in asked.err
    shown = planned("conversation", "show", "P1").out
    assert "What is it?" in shown
    assert "shop." in shown
    assert planned("conversation", "show", "P1", "--format", "table").code == 0
    assert planned("conversation", "snapshot", "P1", "-m", "so far").out == "snapshot of 4 messages\n"
    assert "so far" in planned("conversation", "snapshots", "P1").out
    told = planned("timeline", "--plan", "P1", "--type", "chat").out
    assert ("the supervisor is asked: What is it?" in told, "It is a shop." in told) == (True, True)
    document = planned("supervisor", "ask", "P1", "Again?", "--json")
    assert document.json["answer"] == "It is a \x1b[31mshop.\n"
    assert document.err == ""
    assert planned("supervisor", "resume", "P1").out == "nothing was cut off\n"


def test_a_terminal_sees_the_answer_as_it_comes(planned: Program) -> None:
    go = planned.home / "go"
    agent(planned, [{"say": "Well, "}, {"run": f"while [ ! -e {go} ]; do sleep 0.02; done"}, {"say": "yes."}])
    terminal = planned.on_terminal("supervisor", "ask", "P1", "Done?")
    terminal.wait_for("Well,")
    go.touch()
    terminal.wait_for("yes.")
    assert terminal.end() == 0


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGINT, id="interrupted", marks=pytest.mark.campaign),
    ],
)
def test_a_question_that_is_cut_off_is_gone_on_with_or_closed(planned: Program, number: signal.Signals) -> None:
    go, begun = planned.home / "go", planned.home / "begun"
    agent(
        planned,
        [{"say": "I begin."}, {"run": f"touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done"}, {"say": "I end."}],
        [{"say": "second"}],
    )
    asking = planned.start("supervisor", "ask", "P1", "One?")
    eventually(lambda: begun.exists() or asking.poll() is not None)
    asking.send_signal(number)
    asking.communicate(timeout=240)
    assert asking.returncode == (130 if number is signal.SIGINT else -9)
    go.touch()
    asked = planned("supervisor", "ask", "P1", "Two?")
    assert asked.code == 0, asked.err
    said = messages(planned)
    if number is signal.SIGKILL:
        assert asked.out == "I begin.\nI end.\nsecond\n"
        assert said == [
            ("user", "One?"),
            ("assistant", "I begin."),
            ("assistant", "I end."),
            ("user", "Two?"),
            ("assistant", "second"),
        ]
    else:
        assert ("system", "the supervisor gave no answer: it was stopped") in said
        assert [each for each in said if each[0] == "user"] == [("user", "One?"), ("user", "Two?")]


def test_a_plan_goes_on_from_where_it_is_told_to(planned: Program) -> None:
    resume = ("supervisor", "resume", "P1")
    assert planned(*resume, "--mode", "from_checkpoint").code == 2
    added = planned(*resume, "--context", "Use tabs", "--json").json
    assert (added["kind"], added["context"]) == ("context", "Use tabs")
    assert planned("plan", "execute", "P1").code == 0
    assert planned(*resume, "--mode", "restart_phase").code == 2, "it asks for --yes"
    seen = planned(*resume, "--mode", "restart_phase", "--dry-run")
    assert "T1 Work: completed → pending" in seen.out
    done = planned(*resume, "--mode", "from_checkpoint", "--at", "start_implementation", "--context", "More", "--yes")
    assert (done.code, "done: take P1 and what was said" in done.out) == (0, True), done.err
    assert messages(planned) == [("user", "Use tabs"), ("user", "More")]


def test_a_model_answers_in_words(planned: Program) -> None:
    with model_api() as api:
        planned.environment.update(api.environment)
        api.replies += [Reply(call={"answer": "All of it."}), Reply(call={"answer": "Because."})]
        asked = planned("supervisor", "ask", "P1", "What is left?")
        assert (asked.code, asked.out) == (0, "All of it.\n"), asked.err
        why = planned("supervisor", "ask", "P1", "Why?", "--json").json
        assert why["answer"] == "Because."
        assert why["usage"]["input_tokens"] > 0
        told = api.asked[1]["messages"][0]["content"]
    assert "> What is left?" in told
    assert "> All of it." in told
    assert messages(planned)[-1] == ("assistant", "Because.")


def test_without_anybody_it_says_how_to_name_one(planned: Program) -> None:
    missing = planned("supervisor", "ask", "P1", "Hello?")
    assert missing.code == 5
    assert "HOLDFAST_SUPERVISOR_AGENT" in missing.err
    assert planned("supervisor", "ask", "P9", "Hello?").code == 4
    assert planned("supervisor", "ask", "P1", " ").code == 2
    assert planned("supervisor", "ask", "P1", "x", "--agent", "a", "--model", "b:c").code == 2
    assert planned("conversation", "show", "P1").out == "P1 has no messages\n"
