"""Settings: every limit and place, each from one `HOLDFAST_*` environment variable or its default.

A plain dataclass: every command reads it, and a settings library would cost each of them a third of a second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs

PREFIX = "HOLDFAST_"
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class BadSetting(ValueError):
    """Names the environment variable whose value cannot be one, and says what it should be."""

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(message)
        self.variable = variable


def _data_folder() -> Path:
    return Path(platformdirs.user_data_dir("holdfast"))


def _agents_file() -> Path:
    return Path(platformdirs.user_config_dir("holdfast")) / "agents.toml"


def _price_file() -> Path:
    return Path(platformdirs.user_config_dir("holdfast")) / "prices.toml"


def _setting(default: Any, description: str, *, least: float | None = None) -> Any:
    return field(default=default, metadata={"description": description, "least": least})


@dataclass(slots=True)
class Settings:
    """Holds one value per setting; the environment variable is `HOLDFAST_` and the name in capitals."""

    data: Path = field(
        default_factory=_data_folder,
        metadata={
            "description": "Folder of all that Holdfast keeps: database, vaults, worktrees, runs, blobs, backups."
        },
    )
    db: str = _setting("", "Database URL: sqlite:///path or postgresql://…; empty = holdfast.db in the data folder.")
    agents: Path = field(
        default_factory=_agents_file,
        metadata={"description": "Settings file of your own agents, and of what you change in the known ones (TOML)."},
    )
    backup_on_start: bool = _setting(False, "Back the database up each time a worker starts.")
    backups_kept: int = _setting(10, "Automatic backups kept; the oldest go first.", least=1)
    busy_timeout_seconds: float = _setting(30.0, "How long to wait for a locked SQLite database.", least=0)

    max_parallel: int = _setting(4, "Tasks that one worker runs at the same time.", least=1)
    checkpoint_interval_seconds: float = _setting(
        300.0, "Time between interval checkpoints of a running task; 0 = none.", least=0
    )
    retry_base_seconds: float = _setting(5.0, "Wait before attempt 2; doubles each time.", least=0)
    retry_max_seconds: float = _setting(300.0, "Longest wait before an attempt.", least=0)
    answer_seconds: float = _setting(30.0, "How long a command waits for a worker to do what it asked for.", least=0)
    stop_grace_seconds: float = _setting(10.0, "Time between SIGTERM and SIGKILL when a command is stopped.", least=0)
    default_timeout_seconds: float = _setting(0.0, "Time limit of a task that names none; 0 = no limit.", least=0)
    command_environment: str = _setting(
        "PATH,HOME,USER,LOGNAME,SHELL,LANG,LC_ALL,LC_CTYPE,TERM,TZ,TMPDIR",
        "Names of the environment variables that commands inherit, separated by commas.",
    )

    sandbox: str = _setting(
        "",
        "Where commands run: auto, none, bubblewrap, podman or docker; empty = what the project was registered with.",
    )
    sandbox_image: str = _setting("", "Image that podman and docker run; it must have the programs that tasks use.")
    sandbox_network: str = _setting("full", "What confined commands reach: none, allow-list or full.")
    sandbox_hosts: str = _setting(
        "", "The allow-list, separated by commas: api.example.org, *.example.org, localhost:8080, 10.0.0.0/8."
    )
    sandbox_readable: str = _setting(
        "", "Folders that confined commands may read beside the system's, separated by colons."
    )
    sandbox_writable: str = _setting(
        "", "Folders that confined commands may write beside their own, separated by colons."
    )
    sandbox_memory_bytes: int = _setting(0, "Memory of a confined command; 0 = no limit.", least=0)
    sandbox_max_processes: int = _setting(4096, "Processes and threads of a confined command; 0 = no limit.", least=0)
    sandbox_cpus: float = _setting(0.0, "CPUs of a confined command; 0 = no limit.", least=0)

    secrets: str = _setting(
        "*_API_KEY,*_TOKEN,*_SECRET,*_PASSWORD",
        "Names of the environment variables whose values are secrets, separated by commas; * stands for anything.",
    )
    agent: str = _setting("", "The agent of tasks that name none, in projects that name none.")
    permissions: str = _setting(
        "allow-edits",
        "What agents may do unasked, where neither plan nor project says: ask, allow-edits, allow-all.",
    )
    agent_tools: bool = _setting(True, "Give agents the tools of Holdfast: progress, checkpoints, questions to people.")
    agent_journal_max_bytes: int = _setting(
        1 << 30, "What passes between Holdfast and one agent's process; beyond it the session fails.", least=1 << 20
    )
    agent_line_bytes: int = _setting(
        16 << 20, "Longest message between Holdfast and an agent; a longer one ends the session.", least=1 << 16
    )
    agent_file_bytes: int = _setting(10 << 20, "Largest file that an agent reads or writes through Holdfast.", least=1)
    agent_terminals: int = _setting(32, "Terminals that an agent has open at once through Holdfast.", least=0)
    agent_terminal_output_bytes: int = _setting(
        256 << 10, "Output of such a terminal that the agent is told, from its end.", least=1
    )
    agent_terminal_journal_bytes: int = _setting(
        16 << 20, "Output of such a terminal that is kept; the rest is cut with a marker.", least=1 << 16
    )
    agent_open_requests: int = _setting(
        256, "What an agent asks for at once, questions and files too; more end the session.", least=1
    )
    agent_garbage_lines: int = _setting(100, "Lines of an agent that are no messages, which a session bears.", least=0)
    agent_updates_per_second: float = _setting(
        5000.0, "Updates of an agent that are kept, on average; a flood is thinned out with a marker.", least=1
    )
    agent_updates_burst: int = _setting(50_000, "Updates of an agent that may come at once beyond that.", least=1)
    agent_start_seconds: float = _setting(60.0, "Longest wait for an agent's first answer.", least=1)
    agent_session_seconds: float = _setting(120.0, "Longest wait from there until its session is open.", least=1)
    agent_leave_seconds: float = _setting(
        2.0, "What an agent gets to end by itself once it is done, before it is stopped.", least=0
    )

    prices: Path = field(
        default_factory=_price_file,
        metadata={"description": "TOML file with prices of models that win over those that ship; need not exist."},
    )
    planner_model: str = _setting("", "Model that drafts plans: provider:name, e.g. anthropic:claude-opus-5.")
    planner_base_url: str = _setting("", "Address of the planner's model server; empty = the provider's own.")
    planner_timeout_seconds: float = _setting(300.0, "Longest wait for one answer of the planner's model.", least=1)
    planner_max_tokens: int = _setting(16_000, "Longest answer of the planner's model, in tokens.", least=256)
    planner_context_characters: int = _setting(
        60_000, "Most characters of the project that the planner is told.", least=1000
    )

    supervisor_agent: str = _setting(
        "", "Agent of plans' supervisors; empty = the planner's model, else the project's own agent."
    )
    supervisor_replans: int = _setting(2, "How often a plan's supervisor may change it after failures.", least=0)
    supervisor_timeout_seconds: float = _setting(1800.0, "Longest time for one answer of a supervisor.", least=1)

    journal_max_bytes: int = _setting(
        64 << 20, "Output of one command that is kept; the rest is cut with a marker.", least=1 << 16
    )
    log_max_bytes: int = _setting(8 << 20, "Output of one step that goes to the database's log.", least=1 << 12)
    result_max_bytes: int = _setting(
        16 << 10, "Result of a tool call that a message holds; a longer one goes to the blobs.", least=1024
    )
    snapshot_messages: int = _setting(
        100, "Messages between two automatic snapshots of a conversation; 0 = none.", least=0
    )
    max_file_bytes: int = _setting(
        1 << 30, "Largest file that a checkpoint keeps; larger ones are skipped.", least=1 << 16
    )
    folder_max_files: int = _setting(
        200_000, "Files that a snapshot of a folder takes that is no git repository; more are refused.", least=1
    )
    folder_max_bytes: int = _setting(
        10 << 30, "Bytes of the files that such a snapshot takes; more are refused.", least=1 << 16
    )
    max_ignored_files: int = _setting(
        10_000, "Ignored files that one checkpoint keeps; of more, the first in order of their paths.", least=1
    )
    diff_max_files: int = _setting(2000, "Files that one diff shows.", least=1)
    diff_max_lines: int = _setting(20000, "Lines that one diff shows.", least=1)
    keep_days: int = _setting(
        30,
        "Days that `holdfast gc` keeps what nobody needs any more and plans in the trash; nothing goes by itself.",
        least=0,
    )
    plan_file_max_bytes: int = _setting(4 << 20, "Largest plan file that is read.", least=1024)

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Gives the settings in force: what is `given`, else the environment's, else the defaults.

        Raises `BadSetting` for a value that cannot be one.
        """
        source = os.environ if environment is None else environment
        chosen = dict(given)
        for each in fields(cls):
            text = source.get(PREFIX + each.name.upper())
            if text is not None and each.name not in chosen:
                chosen[each.name] = _parsed(each.name, str(each.type), text, each.metadata.get("least"))
        return cls(**chosen)

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The names in `secrets`, one by one."""
        return tuple(name.strip() for name in self.secrets.split(",") if name.strip())

    @property
    def database_url(self) -> str:
        """The URL in force; SQLite in the data folder unless `HOLDFAST_DB` says otherwise."""
        return self.db or f"sqlite:///{self.data / 'holdfast.db'}"


def _parsed(name: str, kind: str, text: str, least: float | None) -> Any:
    try:
        match kind:
            case "bool":
                value: Any = _BOOLEANS[text.strip().lower()]
            case "int":
                value = int(text)
            case "float":
                value = float(text)
            case "Path":
                value = Path(text)
            case _:
                value = text
        # Written so that NaN is refused too.
        if least is not None and not value >= least:
            raise ValueError
    except (ValueError, KeyError) as error:
        wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        bound = f" of at least {least:g}" if least is not None else ""
        variable = PREFIX + name.upper()
        raise BadSetting(variable, f"{variable}: {text!r} is not {wanted}{bound}") from error
    return value


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Gives the settings of this process, read once."""
    return Settings.read()
