"""What Holdfast adds to a turn of an agent: from the prompt on its way to the last message stored durably.

The same turn of the scripted agent, driven bare over its standard streams, and through a plan: shim, journal, fold,
database. Prints both, the difference and the ratio, and writes bench/results/turn.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIMIT_MS = 50.0
LAST = "That is all."
TURN = [*({"say": f"word {number} "} for number in range(50)), {"write": {"path": "a", "text": "a\n"}}, {"say": LAST}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=12)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        script = Path(folder) / "agent.json"
        script.write_text(json.dumps({"turns": [TURN]}))
        bare = 1000 * statistics.median(bare_turn(Path(folder), script) for _ in range(chosen.turns))
        command = [sys.executable, __file__, "--inside", folder, str(chosen.turns)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept = 1000 * statistics.median(json.loads(done.stdout.splitlines()[-1]))
    result = {"bare_ms": bare, "holdfast_ms": kept, "added_ms": kept - bare, "ratio": kept / bare}
    print(f"bare turn            {bare:8.1f} ms")
    print(f"turn of a task       {kept:8.1f} ms   ({result['ratio']:.1f} x)")
    print(f"added                {result['added_ms']:8.1f} ms   (limit {LIMIT_MS:g})")
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "turn.json").write_text(json.dumps(result, indent=1))


def agent_command(script: Path) -> list[str]:
    return [sys.executable, "-m", "holdfast.agents.scripted", str(script)]


def bare_turn(folder: Path, script: Path) -> float:
    """Gives the seconds of one turn between us and the agent alone."""
    environment = os.environ | {"HOLDFAST_SCRIPTED_SESSIONS": str(folder / "sessions")}
    with subprocess.Popen(
        agent_command(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    ) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        asked = 0

        def ask(method: str, **params: object) -> Any:
            nonlocal asked
            asked += 1
            line = {"jsonrpc": "2.0", "id": asked, "method": method, "params": params}
            print(json.dumps(line), file=agent.stdin, flush=True)
            for answer in map(json.loads, agent.stdout or ()):
                if answer.get("id") == asked:
                    return answer["result"]
            raise EOFError("the agent ended")

        ask("initialize", protocolVersion=1)
        session = ask("session/new", cwd=str(folder), mcpServers=[])["sessionId"]
        began = time.perf_counter()
        ask("session/prompt", sessionId=session, prompt=[{"type": "text", "text": "go"}])
        seconds = time.perf_counter() - began
        agent.stdin.close()
    return seconds


def inside(folder: Path, turns: int) -> None:
    """The measured process: a plan of so many agent tasks, one after the other; prints the seconds of each turn."""
    os.environ |= {"HOLDFAST_DATA": str(folder / "data"), "HOLDFAST_SANDBOX": "none", "HOLDFAST_AGENT": "bench"}
    os.environ["HOLDFAST_AGENTS"] = str(folder / "agents.toml")
    command = json.dumps(agent_command(folder / "agent.json"))
    sessions = json.dumps(str(folder / "sessions"))
    table = f"[bench]\ncommand = {command}\nenvironment = {{HOLDFAST_SCRIPTED_SESSIONS = {sessions}}}\n"
    (folder / "agents.toml").write_text(table)
    repository = folder / "repository"
    repository.mkdir()
    who = ["-c", "user.name=b", "-c", "user.email=b@b"]
    for words in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "start"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    from holdfast.app import execution, plans, projects, wire
    from holdfast.domain.planfile import parse

    began, ended = watch_turns()
    lines = "\n".join(f"      - {{title: t{number}, instructions: go}}" for number in range(turns))
    text = f"title: turns\nphases:\n  - title: all\n    tasks:\n{lines}\n"
    with wire.open_house() as house:
        plan = plans.create(house, projects.init(house, repository).project, parse(text, source="bench"))
        plans.execute(house, plan.id)
        with execution.working(house, "run") as worker:
            view = execution.follow(house, worker, plan.id, lambda _: None, stop_waiting=lambda _: False)
    assert view.plan.status == "completed", view.plan.error
    print(json.dumps([after - before for before, after in zip(began, ended, strict=True)]))


def watch_turns() -> tuple[list[float], list[float]]:
    """Gives the times at which prompts were made, and at which the last words of turns were committed."""
    from holdfast.domain.transcript import Folded
    from holdfast.engine import agent_prompt, agent_record

    began: list[float] = []
    ended: list[float] = []
    make, store = agent_prompt.next_prompt, agent_record.Recorder._store

    def made(*arguments: Any) -> str | None:
        began_at = time.perf_counter()
        prompt = make(*arguments)
        if prompt is not None:
            began.append(began_at)
        return prompt

    def stored(self: agent_record.Recorder, folded: Folded, prompted: bool = False) -> None:
        store(self, folded, prompted)
        if any(message.content.endswith(LAST) for message in folded.messages):
            ended.append(time.perf_counter())

    agent_prompt.next_prompt, agent_record.Recorder._store = made, stored
    return began, ended


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
