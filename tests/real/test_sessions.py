"""Real agents over ACP, killed and all: they edit, ask, die, go on, and nothing of the talk is lost or told twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.model_server import ModelServer, Turn, run, write
from tests.real.conftest import StartTalk
from tests.real.real_agents import RealAgent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_it_asks_edits_and_runs_a_command_and_all_of_it_is_told(
    agent: RealAgent, talk: StartTalk, model: ModelServer, worktree: Path
) -> None:
    model.add(
        Turn("I write it.", write(str(worktree / "one.txt"), "one\n")),
        Turn(" Now a command.", run("echo two > two.txt")),
        Turn(" All done."),
    )
    session = talk("Write one and two.")
    outcome = session.go()
    assert outcome["reason"] == "end_turn", outcome
    assert (worktree / "one.txt").read_text() == "one\n"
    assert (worktree / "two.txt").read_text() == "two\n"
    assert len(session.asked()) == 2
    assert [update["text"] for update in session.updates("Prompted")] == ["Write one and two."]
    assert session.said() == "I write it. Now a command. All done."
    calls = list(session.tools().values())
    assert [(call["kind"], call["status"]) for call in calls] == [("edit", "completed"), ("execute", "completed")]
    assert [update["reason"] for update in session.updates("TurnEnded")] == ["end_turn"]
    assert not agent.tells_usage or outcome["usage"]["input_tokens"] > 0
    assert model.requests[-1].text.count("Write one and two.") == 1


@pytest.mark.campaign
def test_what_a_person_refuses_is_not_done(talk: StartTalk, model: ModelServer, worktree: Path) -> None:
    model.add(Turn("I write it.", write(str(worktree / "one.txt"), "one\n")), Turn(" As you wish."))
    session = talk("Write one.")
    outcome = session.go(answer="reject_once")
    assert outcome["reason"] in ("end_turn", "cancelled", "refusal"), outcome
    assert len(session.asked()) == 1
    assert not (worktree / "one.txt").exists()


@pytest.mark.campaign
def test_a_worker_killed_in_mid_turn_is_replaced_and_the_agent_notices_nothing(
    talk: StartTalk, model: ModelServer, worktree: Path
) -> None:
    model.add(Turn("I begin something long.", write(str(worktree / "one.txt"), "one\n"), hang=True), Turn(" Finished."))
    session = talk("Do it.")
    session.begin()
    session.wait_until(lambda: session.said() == "I begin something long.")
    before = {process.pid for process in session.agent()}
    session.kill_worker()
    assert {process.pid for process in session.agent()} == before
    session.begin()
    model.release()
    assert session.end()["reason"] == "end_turn"
    assert session.said() == "I begin something long. Finished."
    assert len(session.updates("Prompted")) == 1
    assert len(session.asked()) == 1
    assert (worktree / "one.txt").read_text() == "one\n"
    assert max(asked.turn for asked in model.requests) == 2


@pytest.mark.campaign
def test_a_question_that_was_open_when_the_worker_was_killed_is_asked_again_and_answered_once(
    talk: StartTalk, model: ModelServer, worktree: Path
) -> None:
    model.add(Turn("I run it.", run("echo once >> once.txt")), Turn(" Finished."))
    session = talk("Do it.")
    session.begin(answer="never")
    session.wait_until(session.asked)
    session.kill_worker()
    assert not (worktree / "once.txt").exists()
    assert session.go()["reason"] == "end_turn"
    first, second = session.asked()
    assert first == second
    assert (worktree / "once.txt").read_text() == "once\n"
    assert session.said() == "I run it. Finished."


def test_an_agent_killed_in_mid_turn_is_started_again_and_remembers(
    talk: StartTalk, model: ModelServer, worktree: Path
) -> None:
    model.add(
        Turn("I write one.", write(str(worktree / "one.txt"), "one\n")),
        Turn(" And now something long.", hang=True),
    )
    killed = talk("Write one, then two.")
    killed.begin()
    killed.wait_until(lambda: killed.said() == "I write one. And now something long.")
    killed.kill_agent()
    outcome = killed.end()
    assert outcome["reason"] == "agent_died", outcome
    assert outcome["session_id"]
    assert outcome["capabilities"]["load"] or outcome["capabilities"]["resume"]
    model.release()
    model.add(Turn("I go on.", run("echo two > two.txt")), Turn(" Finished."))
    again = talk("You were interrupted; go on.", how="load", session_id=outcome["session_id"])
    assert again.go()["reason"] == "end_turn"
    assert again.said() == "I go on. Finished."
    assert [update["text"] for update in again.updates("Prompted")] == ["You were interrupted; go on."]
    assert [call["status"] for call in again.tools().values()] == ["completed"]
    remembered = model.requests[-1].text
    assert "Write one, then two." in remembered
    assert "I write one." in remembered
    assert (worktree / "one.txt").read_text() == "one\n"
    assert (worktree / "two.txt").read_text() == "two\n"


@pytest.mark.campaign
def test_a_second_prompt_goes_to_the_same_session(talk: StartTalk, model: ModelServer) -> None:
    model.add(Turn("The first answer."), Turn(" The second answer."))
    session = talk("First question?", "Second question?")
    outcome = session.go()
    assert (outcome["reason"], outcome["turns"]) == ("end_turn", 2), outcome
    assert session.said() == "The first answer. The second answer."
    assert "First question?" in model.requests[-1].text
    assert "Second question?" in model.requests[-1].text


@pytest.mark.campaign
def test_a_fork_knows_what_was_said_and_leaves_the_original_as_it_was(
    agent: RealAgent, talk: StartTalk, model: ModelServer
) -> None:
    if not agent.forks:
        pytest.skip(f"{agent.name} does not fork sessions")
    model.add(Turn("The trunk."))
    trunk = talk("Trunk question?").go()
    model.add(Turn("The branch."))
    branch = talk("Branch question?", how="fork", session_id=trunk["session_id"])
    outcome = branch.go()
    assert outcome["reason"] == "end_turn", outcome
    assert outcome["session_id"] != trunk["session_id"]
    assert branch.said() == "The branch."
    assert "Trunk question?" in model.requests[-1].text
    model.add(Turn("The trunk again."))
    talk("Trunk question again?", how="load", session_id=trunk["session_id"]).go()
    assert "Branch question?" not in model.requests[-1].text


@pytest.mark.campaign
def test_a_model_that_refuses_the_key_is_told_clearly(talk: StartTalk, model: ModelServer) -> None:
    model.add(*[Turn(error=401)] * 30)
    outcome = talk("Anything?").go()
    assert outcome["reason"] in ("agent_error", "not_logged_in"), outcome
    assert "401" in outcome["message"]
