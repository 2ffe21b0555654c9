"""Recorded sessions of real agents, folded: what they really send is understood, whole and once.

Each recording holds two processes of one agent: the first is killed in its second turn, the second loads the session,
ends the turn, forks, and is refused by its model. Long lists of models and commands are shortened; paths are made up.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast.agents.acp.dialogue import Dialogue
from holdfast.agents.journal import Record
from holdfast.domain.conversation import (
    Noted,
    PermissionWanted,
    Prompted,
    Spoke,
    ToolUsed,
    TurnEnded,
    Update,
    UsageTold,
)

RECORDINGS = sorted(Path(__file__).with_name("fixtures").glob("*.jsonl"))
# Calls that our own small driver made beside the session, one at a time: the dialogue sends only what it needs.
BESIDE = {"session/list", "session/set_mode", "session/set_config_option"}


def processes(path: Path) -> list[list[Record]]:
    """Gives the journal of each process of a recording, up to where it forks its session."""
    found: list[list[Record]] = []
    left_out: set[int] = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        recorded = json.loads(line)
        message, ours = recorded["message"], recorded["from"] == "client"
        if message.get("method") == "initialize":
            found.append([])
            left_out = set()
        if message.get("method") == "session/fork":
            break
        if ours and message.get("method") in BESIDE:
            left_out.add(message["id"])
        if "method" not in message and not ours and message["id"] in left_out:
            continue
        if ours and message.get("method") in BESIDE:
            continue
        number = len(found[-1]) + 1
        text = {"text": json.dumps(message) + "\n"}
        found[-1].append(Record(number, float(number), "stdin" if ours else "stdout", text))
    return found


def told(records: list[Record]) -> tuple[Dialogue, list[Update]]:
    dialogue = Dialogue()
    return dialogue, dialogue.fold(records)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_session_is_understood(path: Path) -> None:
    first, second = (told(records) for records in processes(path))
    for dialogue, updates in (first, second):
        assert dialogue.fault is None
        assert not [update for update in updates if isinstance(update, Noted) and update.what in ("invalid", "garbage")]
    dialogue, updates = first
    assert dialogue.capabilities is not None
    assert dialogue.capabilities.load
    assert dialogue.capabilities.modes
    assert dialogue.capabilities.models
    assert [update.text for update in updates if isinstance(update, Prompted)] == ["write one", "write three"]
    said = "".join(update.text for update in updates if isinstance(update, Spoke) and not update.thought)
    assert "I write the file.Now a command.All done." in said.replace("\n", "")
    assert said.endswith("I begin something long.")
    assert [update.reason for update in updates if isinstance(update, TurnEnded)] == ["end_turn"]
    assert dialogue.in_turn
    assert not dialogue.open


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_what_is_told_again_when_a_session_is_loaded_is_not_new(path: Path) -> None:
    _, second = processes(path)
    dialogue, updates = told(second)
    prompts = [update.text for update in updates if isinstance(update, Prompted)]
    assert prompts[0] == "go on"
    said = "".join(update.text for update in updates if isinstance(update, Spoke) and not update.thought)
    assert "I write the file." not in said
    assert "I go on." in said
    before = next(n for n, update in enumerate(updates) if isinstance(update, Prompted))
    assert not [update for update in updates[:before] if isinstance(update, Spoke | ToolUsed)]
    assert dialogue.session is not None
    assert dialogue.session.carried


def test_what_qwen_tells_of_its_tokens_beside_its_speech_is_summed_up() -> None:
    (path,) = [path for path in RECORDINGS if path.name.startswith("qwen")]
    first, second = (told(records) for records in processes(path))
    for dialogue, updates in (first, second):
        used = [update.usage.total_tokens for update in updates if isinstance(update, UsageTold)]
        assert used == [1050 * number for number in range(1, len(used) + 1)]
        assert dialogue.usage is not None
        assert dialogue.usage.total_tokens == used[-1]
    replayed = sum("_meta" in record.text and '"usage"' in record.text for record in processes(path)[1])
    assert len([update for update in second[1] if isinstance(update, UsageTold)]) < replayed, "a replay costs nothing"


@pytest.mark.parametrize("name", ["claude", "opencode", "qwen"])
def test_questions_name_what_they_are_about_and_offer_a_way_to_refuse(name: str) -> None:
    (path,) = [path for path in RECORDINGS if path.name.startswith(name)]
    _, updates = told(processes(path)[0])
    questions = [update for update in updates if isinstance(update, PermissionWanted)]
    assert [question.call.kind for question in questions] == ["edit", "execute"]
    assert questions[0].call.diffs
    assert questions[0].call.diffs[0].new == "one\n"
    for question in questions:
        assert {"allow_once", "reject_once"} <= {kind for _, _, kind in question.options}
