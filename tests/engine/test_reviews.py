"""A reviewer judges a plan's result: what it finds is put right, and what it cannot say a person decides."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.app import conversations, plans, tasks
from holdfast.app.plans import PlanView
from holdfast.domain.conversation import MessageRole
from holdfast.domain.transitions import PauseReason, PlanStage, PlanStatus
from tests.engine.conftest import Bench, statuses

APPROVED = '```json\n{"verdict": "approved", "findings": []}\n```'
CHANGES = '```json\n{"verdict": "changes_needed", "findings": [{"file": "a.txt", "problem": "it must say two"}]}\n```'
WORK = [[{"write": {"path": "a.txt", "text": "one\n"}}], [{"write": {"path": "a.txt", "text": "two\n"}}]]

PLAN = """
title: Small
review: {agent: reviewer, rounds: %(rounds)s}
%(more)s
phases:
  - title: P
    tasks:
      - title: Work
        key: work
        agent: worker
        instructions: Write a.txt.
"""


def agents(bench: Bench, **scripts: Sequence[Sequence[Any]]) -> None:
    """Gives the house agents that each play their turns; a name's turns are played one per session, if it has more."""
    lines: list[str] = []
    for name, turns in scripts.items():
        script = bench.repository.parent / f"{name}.json"
        script.write_text(json.dumps({"turns": turns}))
        command = [sys.executable, "-m", "holdfast.agents.scripted", str(script)]
        lines.append(f"[{name}]\ncommand = {json.dumps(command)}\n")
    bench.house.settings.agents = bench.repository.parent / "agents.toml"
    bench.house.settings.agents.write_text("\n".join(lines))


def in_turn(folder: Path, name: str, *speeches: str) -> list[list[dict[str, Any]]]:
    """Gives a script that says each of the texts in a session of its own, and the last one ever after."""
    steps = [{"once": str(folder / f"{name}-{number}"), "say": text, "stop": "end_turn"} for number, text in enumerate(speeches[:-1])]
    return [[*steps, {"say": speeches[-1]}]]


def plan(rounds: int = 2, more: str = "") -> str:
    return PLAN % {"rounds": rounds, "more": more}


def said(bench: Bench, view: PlanView, key: str) -> list[str]:
    task = next(task for task in view.tasks if task.key == key)
    page = conversations.show(bench.house, task.id)
    return [each.content for each in page.messages if each.role is MessageRole.USER]


def test_an_approved_result_completes_the_plan(bench: Bench) -> None:
    agents(bench, worker=WORK, reviewer=[[{"read": "a.txt"}, {"say": APPROVED}]])
    view = bench.run(plan())
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert statuses(view) == {"work": "completed", "review-1": "completed"}
    assert view.usage.seconds > 0
