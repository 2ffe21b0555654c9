"""The agents that can be asked for by name: those that Holdfast knows, and the user's own.

Both are TOML files of the same form, one table per agent. A table of the user's file changes the known agent of that
name key by key, or makes a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from holdfast.domain import permissions
from holdfast.domain.permissions import Policy
from holdfast.domain.words import did_you_mean
from holdfast.errors import NotFound, UsageError
from holdfast.settings import Settings

VERSION_SECONDS = 10.0
_KNOWN = Path(__file__).with_name("known_agents.toml")
_LARGEST_FILE_BYTES = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]+)\}|\$(\w+)")
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """How one agent is started, found and logged in.

    `command` makes it speak ACP on its standard streams; its first word is looked for on the PATH. `version` are the
    words that make that program tell its version (none: it cannot). `environment` is set, `pass_environment` is passed
    on from ours where it is set there. `sessions` are folders below the home folder that it keeps logins and sessions
    in, `reads` folders and files that it only reads, `copies` files right in the home folder that it wants beside them.
    In the first two `$NAME` and `${NAME:-…}` stand for a variable of its environment (`place`).
    `auth_method` is asked for where the agent wants to be logged in before it opens a session.
    `mode` and `model` are what a session is set to, by the agent's own names (empty: as the agent has it);
    `read_only_mode` is one in which it changes nothing. `permissions` is what it may do unasked. `verified` and
    `unverified` say how far this was checked.
    """

    name: str
    command: tuple[str, ...]
    title: str = ""
    version: tuple[str, ...] = ()
    install: str = ""
    login: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    pass_environment: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    auth_method: str = ""
    mode: str = ""
    model: str = ""
    read_only_mode: str = ""
    notes: tuple[str, ...] = ()
    verified: str = ""
    unverified: str = ""
    own: bool = False
    permissions: Policy | None = None

    def variables(self, source: Mapping[str, str]) -> dict[str, str]:
        """Gives what the agent's environment has beyond that of a command: what is passed on, and what is set."""
        passed = {name: source[name] for name in self.pass_environment if name in source}
        return passed | dict(self.environment)


def place(name: str, variables: Mapping[str, str]) -> str:
    """Gives a place of `sessions` or `reads` as it is with these variables; empty where its variable is not set.

    `${NAME:-.codex}` is what the variable NAME says, else `.codex`. One that is no absolute path counts as not set.
    """
    named = {name: value for name, value in variables.items() if os.path.isabs(value)}
    known = _VARIABLE.sub(lambda found: named.get(found[1] or found[3], found[2] or ""), name)
    return known if all(found[2] or found[3] in named for found in _VARIABLE.finditer(name)) else ""


@dataclass(frozen=True, slots=True)
class Found:
    """An agent whose program is there. `version` is empty where it could not be told in time."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Missing:
    """An agent whose program is not there, and how to get it."""

    hint: str


def known(settings: Settings) -> dict[str, AgentSpec]:
    """Gives all agents by name: the known ones, with the changes and additions of the user's file.

    Raises UsageError, naming file and line, for a file that cannot be understood. No file is an empty file.
    """
    specs = dict(_shipped())
    path = settings.agents
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise UsageError(f"{path} is larger than {_LARGEST_FILE_BYTES} bytes", hint="name a file of agents")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return specs
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="correct it, or set HOLDFAST_AGENTS") from error
    for spec in parse(text, str(path), specs):
        specs[spec.name] = replace(spec, own=True)
    return specs


def named(settings: Settings, name: str) -> AgentSpec:
    """Gives the agent of that name; raises NotFound, with the nearest name."""
    specs = known(settings)
    if name not in specs:
        hint = did_you_mean(name, specs) or "list them: holdfast agent list"
        raise NotFound(f"no agent is named {name!r}", hint=hint)
    return specs[name]


def find(spec: AgentSpec, environment: Mapping[str, str] | None = None) -> Found | Missing:
    """Looks for the agent's program on the PATH and asks its version; never longer than `VERSION_SECONDS`."""
    variables = os.environ if environment is None else environment
    place = program(spec, variables)
    if isinstance(place, Missing):
        return place
    return Found(place, _packaged_version(place) or _told_version(str(place), spec, variables))


def program(spec: AgentSpec, environment: Mapping[str, str] | None = None) -> Path | Missing:
    """Looks for the agent's program on the PATH, without running it."""
    variables = os.environ if environment is None else environment
    # A relative entry of PATH would let a repository supply the agent.
    path = os.pathsep.join(each for each in variables.get("PATH", "").split(os.pathsep) if os.path.isabs(each))
    place = shutil.which(os.path.expanduser(spec.command[0]), path=path)
    if place is None:
        return Missing(spec.install or f"put {spec.command[0]!r} on the PATH, or give its path in the settings file")
    return Path(place)


# -- the files -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _shipped() -> Mapping[str, AgentSpec]:
    return {spec.name: spec for spec in parse(_KNOWN.read_text("utf-8"), str(_KNOWN), {})}


def parse(text: str, source: str, based_on: Mapping[str, AgentSpec]) -> list[AgentSpec]:
    """Reads a file of agents; each of its tables is laid over the agent of that name in `based_on`.

    Raises UsageError that names `source` and, where it is known, the line.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: {error}", hint="the file is TOML: a [name] per agent, then key = value") from error
    return [_spec(_Table(source, text, name, value), based_on.get(name)) for name, value in document.items()]


_TEXTS = ("title", "install", "login", "auth_method", "mode", "model", "read_only_mode", "verified", "unverified")
_LISTS = ("command", "version", "pass_environment", "sessions", "reads", "copies", "notes")
KEYS = (*_TEXTS, *_LISTS, "environment", "permissions")
assert {*KEYS, "name", "own"} == {each.name for each in fields(AgentSpec)}


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of a file of agents, and where its lines are."""

    source: str
    text: str
    name: str
    value: Any

    def wrong(self, message: str, hint: str, key: str = "") -> UsageError:
        return UsageError(f"{self.source}:{self._line(key)}: [{self.name}] {message}", hint=hint)

    def _line(self, key: str) -> int:
        """Gives the line of a key of this table, else of its heading; `tomllib` does not keep them."""
        heading = 0
        for number, line in enumerate(self.text.splitlines(), 1):
            if opened := re.match(r"\s*\[\s*[\"']?([^\]\"'.]+)", line):
                if heading and opened[1].strip() != self.name:
                    break
                heading = heading or (number if opened[1].strip() == self.name else 0)
            if heading and key and re.match(rf"\s*(\[.*\.)?[\"']?{re.escape(key)}\b", line):
                return number
        return heading or 1


def _spec(table: _Table, base: AgentSpec | None) -> AgentSpec:
    if not isinstance(table.value, dict):
        raise table.wrong("is no table", hint=f"write [{table.name}] and its keys below it")
    if not _NAME.fullmatch(table.name):
        raise table.wrong("cannot be the name of an agent", hint="small letters, digits, - and _, 40 at most")
    given: dict[str, Any] = {}
    for key, value in table.value.items():
        if key not in KEYS:
            raise table.wrong(f"has no key {key!r}", did_you_mean(key, KEYS) or f"keys: {', '.join(KEYS)}", key)
        given[key] = _checked(table, key, value)
    if base is not None:
        # Laid over it too: what makes a known agent ask shall not go with a variable that is added.
        given["environment"] = {**base.environment, **given.get("environment", {})}
        return replace(base, **given)
    if not given.get("command"):
        raise table.wrong("has no command", hint='say what starts it: command = ["name", "acp"]')
    return AgentSpec(name=table.name, **given)


def _checked(table: _Table, key: str, value: object) -> object:
    """Gives a value as an AgentSpec holds it; raises UsageError for one of a wrong kind."""
    if key in _TEXTS:
        if not isinstance(value, str):
            raise table.wrong(f"{key} is no text", hint=f'{key} = "…"', key=key)
        return value
    if key in _LISTS:
        if not isinstance(value, list) or not all(isinstance(each, str) and "\0" not in each for each in value):
            raise table.wrong(f"{key} is no list of texts", hint=f'{key} = ["…", "…"]', key=key)
        if key == "command" and not (value and value[0]):
            raise table.wrong("command is empty", hint='command = ["name", "acp"]', key=key)
        return tuple(value)
    if key == "permissions":
        try:
            return permissions.read(value)
        except UsageError as error:
            raise table.wrong(f"permissions: {error.message}", hint=error.hint, key=key) from error
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise table.wrong("environment is no table of texts", hint='environment = { NAME = "value" }', key=key)
    return dict(value)


# -- versions --------------------------------------------------------------------------------------------------------


def _packaged_version(place: Path) -> str:
    """Gives the version of the npm package that a program is part of, without starting it; empty if it is in none."""
    real = place.resolve()
    if "node_modules" not in real.parts:
        return ""
    for folder in real.parents:
        with contextlib.suppress(OSError, ValueError):
            written = json.loads((folder / "package.json").read_bytes())
            if isinstance(written, dict) and "name" in written and "bin" in written:
                return str(written.get("version", ""))
        if folder.parent.name == "node_modules":
            break
    return ""


def _told_version(place: str, spec: AgentSpec, variables: Mapping[str, str]) -> str:
    """Asks the program itself; empty if it does not say in time."""
    if not spec.version:
        return ""
    kept = {name: variables[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in variables}
    try:
        process = subprocess.Popen(
            [place, *spec.version],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | spec.variables(variables),
            cwd="/",
            start_new_session=True,
        )
    except OSError:
        return ""
    with process:
        try:
            said, _ = process.communicate(timeout=VERSION_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return ""
    told = _VERSION.search(said[:10_000].decode(errors="replace"))
    return told[0] if told and process.returncode == 0 else ""
