"""Real agents, each against the scripted model, and workers as processes that hold sessions with them.

An agent is looked for on the PATH, or where HOLDFAST_TEST_<NAME> says; a test of one that is not here is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tests.agents.runs import eventually
from tests.harness.model_server import ModelServer

from holdfast.agents.catalog import named
from holdfast.agents.shim.tree import carries
from holdfast.settings import Settings

PATIENCE_SECONDS = 240.0
_WORKER = Path(__file__).with_name("worker_process.py")


def _opencode(model: ModelServer) -> dict[str, str]:
    scripted = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{model.url}/v1", "apiKey": "none"},
        "models": {"scripted": {"limit": {"context": 100_000, "output": 8_000}, "cost": {"input": 1, "output": 2}}},
    }
    configuration = {
        "provider": {"scripted": scripted},
        "model": "scripted/scripted",
        "share": "disabled",
        "autoupdate": False,
    }
    # That it asks follows from the catalogue alone.
    known = named(Settings(agents=Path("/nonexistent")), "opencode").environment
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(configuration), "OPENCODE_DISABLE_MODELS_FETCH": "1", **known}


def _qwen(model: ModelServer) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{model.url}/v1", "OPENAI_API_KEY": "none", "OPENAI_MODEL": "scripted"}


def _claude(model: ModelServer) -> dict[str, str]:
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    return {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "none", **quiet}


@dataclass(frozen=True)
class RealAgent:
    """One agent: the words that start it for ACP, and the variables that lead it to the scripted model."""

    name: str
    words: tuple[str, ...]
    variables: Callable[[ModelServer], dict[str, str]]
    forks: bool = True
    tells_usage: bool = True

    @property
    def program(self) -> str | None:
        return os.environ.get(f"HOLDFAST_TEST_{self.name.upper()}") or shutil.which(self.words[0])


AGENTS = {
    agent.name: agent
    for agent in (
        RealAgent("opencode", ("opencode", "acp"), _opencode),
        RealAgent("qwen", ("qwen", "--acp"), _qwen, forks=False, tells_usage=False),
        RealAgent("claude", ("claude-agent-acp",), _claude),
    )
}


@dataclass
class Talk:
    """One run of an agent in a folder of its own, what a database would have kept of it, and the workers that hold it.

    A worker may be killed and another started, as often as one likes; all of them write to the same store.
    """

    home: Path
    worktree: Path
    argv: list[str]
    variables: Mapping[str, str]
    prompts: list[str]
    session: Mapping[str, str]
    token: str = field(default_factory=lambda: f"test-{uuid.uuid4()}")
    worker: subprocess.Popen[str] | None = None

    @property
    def store(self) -> Path:
        return self.home / f"{self.token}.jsonl"

    def begin(self, *, answer: str = "allow_once") -> subprocess.Popen[str]:
        """Starts a worker that answers each question with the option of that kind; `never` = not at all."""
        wanted = {
            "folder": str(self.home / "runs" / self.token),
            "store": str(self.store),
            "cwd": str(self.worktree),
            "argv": self.argv,
            "env": {"PATH": os.environ["PATH"], "HOME": str(self.home / "home"), **self.variables},
            "token": self.token,
            "prompts": self.prompts,
            "session": dict(self.session),
            "answer": answer,
        }
        path = self.home / f"{self.token}.json"
        path.write_text(json.dumps(wanted), encoding="utf-8")
        line = [sys.executable, "-m", "tests.real.worker_process", str(path)]
        self.worker = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=_WORKER.parents[2])
        return self.worker

    def end(self) -> dict[str, Any]:
        """Waits for the worker's end and gives the outcome that it told."""
        assert self.worker is not None
        said, _ = self.worker.communicate(timeout=PATIENCE_SECONDS)
        assert self.worker.returncode == 0
        return json.loads(said)

    def go(self, *, answer: str = "allow_once") -> dict[str, Any]:
        self.begin(answer=answer)
        return self.end()

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Waits for what the store shows, as long as the worker lives; the patience is for a machine under load."""
        worker = self.worker
        assert worker is not None
        eventually(lambda: condition() or worker.poll() is not None, PATIENCE_SECONDS)
        assert condition(), "the worker ended before that"

    def kill_worker(self) -> None:
        assert self.worker is not None
        self.worker.kill()
        self.worker.communicate()

    def kill_agent(self) -> None:
        """Kills every process of the agent at once, as the kernel does when memory runs out."""
        for process in self.agent():
            process.kill()

    def agent(self) -> list[psutil.Process]:
        """The agent's living processes."""
        return [process for process in psutil.process_iter() if carries(process.pid, self.token) and _lives(process)]

    # -- what was stored -----------------------------------------------------------------------------------------------

    def lines(self) -> list[dict[str, Any]]:
        text = self.store.read_text(encoding="utf-8") if self.store.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def updates(self, kind: str) -> list[dict[str, Any]]:
        found = [update for line in self.lines() for update in line.get("updates", [])]
        return [update for update in found if update["type"] == kind]

    def asked(self) -> list[str]:
        """The names of the questions that a person was asked, in order."""
        return [line["asked"] for line in self.lines() if "asked" in line]

    def said(self) -> str:
        """All that the agent said aloud, as one text."""
        return "".join(update["text"] for update in self.updates("Spoke") if not update["thought"])

    def tools(self) -> dict[str, dict[str, Any]]:
        """The agent's tool calls by id, each as it was told last: what was told of it laid over each other."""
        calls: dict[str, dict[str, Any]] = {}
        found = [update for line in self.lines() for update in line.get("updates", [])]
        # Some agents tell of a call for the first time when they ask about it.
        asked = [update["call"] for update in found if update["type"] == "PermissionWanted"]
        for update in [*asked, *self.updates("ToolUsed")]:
            told = {name: value for name, value in update.items() if value is not None}
            calls[update["id"]] = calls.get(update["id"], {}) | told
        return calls


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
