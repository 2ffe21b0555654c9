"""A race of agents on the command line, and what their steps keep of them."""

from __future__ import annotations

import json
import sys

from tests.cli.conftest import Program

PLAN = """
title: One
phases:
  - title: Only
    tasks:
      - {title: Write, key: write, agent: nobody, instructions: Write it}
"""


def agents(program: Program) -> str:
    """Gives a file of one agent that tells a version and is given a key."""
    turn = [{"write": {"path": "written", "text": "it\n"}}]
    script = program.home / "new.json"
    script.write_text(json.dumps({"agent": {"version": "2.0"}, "turns": [turn]}), encoding="utf-8")
    command = json.dumps([sys.executable, "-m", "holdfast.agents.scripted", str(script)])
    sessions = json.dumps(str(program.home / "sessions"))
    file = program.home / "agents.toml"
    table = f"[new]\ncommand = {command}\nenvironment = {{ HOLDFAST_SCRIPTED_SESSIONS = {sessions}, KEY = 's3cret' }}\n"
    file.write_text(table, encoding="utf-8")
    return str(file)


def test_an_agent_races_itself_its_steps_are_compared_and_one_is_picked(ready: Program) -> None:
    ready.environment |= {"HOLDFAST_AGENTS": agents(ready), "HOLDFAST_PERMISSIONS": "allow-all"}
    assert ready("plan", "new", ready.plan(PLAN)).code == 0
    raced = ready("task", "race", "T1", "--agent", "new", "-n", "2")
    assert raced.code == 0, raced.err
    contestants = ready("task", "race", "T1", "--json").json["contestants"]
    seen = [(each["task"]["agent"], each["task"]["status"], each["files"], each["picked"]) for each in contestants]
    assert seen == [("new", "completed", 1, False)] * 2

    assert ready("task", "race", "T1", "--pick", "9", "--yes").code == 4
    picked = ready("task", "race", "T1", "--pick", "2", "--yes", "--json")
    assert picked.code == 0, picked.err
    assert [each["picked"] for each in picked.json["race"]["contestants"]] == [False, True]
    assert picked.json["race"]["task"]["status"] == "completed"

    steps = {each["task"]["number"]: each["step"]["number"] for each in ready("steps", "--json").json["items"]}
    first, second = (str(steps[each["task"]["number"]]) for each in contestants)
    shown = ready("step", "show", second).out
    assert "version: 2.0" in shown
    assert "environment: ['HOLDFAST_SCRIPTED_SESSIONS', 'KEY']" in shown
    assert "s3cret" not in shown
    assert "agent_config" not in ready("step", "diff", first, second).out
    # The step of the choice itself has no such agent, like the steps of before these were kept.
    (line,) = (each for each in ready("step", "diff", first, str(steps[1])).out.splitlines() if ".version" in each)
    assert line.split() == ["agent_config.version", "2.0", "-"]
