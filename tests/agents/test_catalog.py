"""The catalogue: the known agents, the user's own file, and what is found on the PATH."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from holdfast.agents import catalog
from holdfast.agents.catalog import AgentSpec, Found, Missing, find, known, named
from holdfast.errors import NotFound, UsageError
from holdfast.settings import Settings


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def own(folder: Path, text: str) -> Settings:
    path = folder / "agents.toml"
    path.write_text(text, encoding="utf-8")
    return Settings(agents=path)


def test_every_known_agent_says_how_it_is_got_and_how_far_it_was_checked(tmp_path: Path) -> None:
    specs = known(Settings(agents=tmp_path / "none.toml"))
    assert {"claude", "codex", "gemini", "opencode", "goose", "qwen", "kimi", "vibe", "openhands"} <= set(specs)
    for spec in specs.values():
        assert spec.title, spec.name
        assert spec.install, spec.name
        assert bool(spec.verified) != bool(spec.unverified), spec.name
        assert not spec.verified or re.match(r"(ran|opened|read): \S+ \d+\.\d+\.\d+$", spec.verified), spec.name
        assert not any(os.path.isabs(folder) for folder in (*spec.sessions, *spec.reads)), spec.name


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (".codex", ".codex"),
        ("${HERE:-.codex}", "/here"),
        ("${HERE:-.local/share}/opencode", "/here/opencode"),
        ("${NOT_SET:-.local/share}/opencode", ".local/share/opencode"),
        ("${RELATIVE:-.codex}", ".codex"),
        ("$HERE", "/here"),
        ("$NOT_SET", ""),
        ("$RELATIVE", ""),
    ],
)
def test_a_variable_may_name_where_an_agent_keeps_something(name: str, place: str) -> None:
    assert catalog.place(name, {"HERE": "/here", "RELATIVE": "here"}) == place


def test_a_file_of_ones_own_changes_known_agents_key_by_key_and_adds_new_ones(tmp_path: Path) -> None:
    settings = own(tmp_path, '[opencode]\nmodel = "x/y"\n\n[mine]\ncommand = ["my-agent", "--acp"]\nmode = "code"\n')
    specs = known(settings)
    assert specs["opencode"].model == "x/y"
    assert specs["opencode"].command == ("opencode", "acp")
    assert specs["mine"] == AgentSpec("mine", ("my-agent", "--acp"), mode="code", own=True)
    assert [name for name, spec in specs.items() if spec.own] == ["opencode", "mine"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[a]\ncommand = [", None, "at end of document"),
        ('[a]\ntitle = "A"\n', 1, "has no command"),
        ('[b]\ncommand = ["b"]\n\n[a]\ncommand = ["a"]\nmodle = "x"\n', 6, "has no key 'modle'"),
        ('[a]\ncommand = "a --acp"\n', 2, "command is no list of texts"),
        ("[a]\ncommand = []\n", 2, "command is empty"),
        ('[a]\ncommand = ["a"]\nmodel = 4\n', 3, "model is no text"),
        ('[a]\ncommand = ["a"]\nenvironment = { X = 1 }\n', 3, "environment is no table of texts"),
        ('[a]\ncommand = ["a"]\n[a.environment]\nX = 1\n', 3, "environment is no table of texts"),
        ('["A b"]\ncommand = ["a"]\n', 1, "cannot be the name"),
        ("a = 3\n", 1, "is no table"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    settings = own(tmp_path, text)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        known(settings)
    assert caught.value.message.startswith(f"{settings.agents}:{'' if line is None else f'{line}:'}")
    assert caught.value.hint


def test_a_file_that_is_no_text_or_far_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agents.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        known(Settings(agents=path))
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(UsageError, match="larger than"):
        known(Settings(agents=path))


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        named(Settings(agents=tmp_path / "none.toml"), "opncode")
    assert caught.value.hint == "did you mean 'opencode'?"


def test_a_program_on_the_path_is_found_and_asked_for_its_version(tmp_path: Path) -> None:
    path = program(tmp_path, "mine", 'echo "mine version v2.3.4-beta+5 (2026)"')
    spec = AgentSpec("mine", ("mine", "acp"), version=("--version",))
    assert find(spec, {"PATH": str(tmp_path)}) == Found(path, "2.3.4-beta+5")


def test_a_program_that_tells_no_version_is_found_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "VERSION_SECONDS", 0.2)
    spec = AgentSpec("mine", ("mine",), version=("--version",))
    for script in ("exec sleep 600", "echo 1.2; exit 1", "kill -9 $$", "echo none"):
        path = program(tmp_path, "mine", script)
        assert find(spec, {"PATH": f"{tmp_path}:/usr/bin:/bin"}) == Found(path, "")


def test_the_version_of_an_npm_package_is_read_without_starting_it(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "@scope" / "mine"
    started = tmp_path / "started"
    target = program(package / "dist", "index.js", f"touch {started}")
    (package / "dist" / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    described = {"name": "@scope/mine", "version": "7.8.9", "bin": {"mine": "dist/index.js"}}
    (package / "package.json").write_text(json.dumps(described), encoding="utf-8")
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / "mine"
    link.symlink_to(target)
    spec = AgentSpec("mine", ("mine",), version=("--version",))
    assert find(spec, {"PATH": str(tmp_path / "bin")}) == Found(link, "7.8.9")
    assert not started.exists()


def test_a_relative_entry_of_the_path_supplies_no_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "mine", "echo 1.0")
    monkeypatch.chdir(tmp_path)
    for path in (".", "", f".:{tmp_path / 'empty'}"):
        assert isinstance(find(AgentSpec("mine", ("mine",), install="get it"), {"PATH": path}), Missing)


def test_a_missing_program_is_told_with_how_to_get_it(tmp_path: Path) -> None:
    assert find(AgentSpec("mine", ("mine",), install="get it"), {"PATH": str(tmp_path)}) == Missing("get it")


def test_a_variable_of_a_known_agent_stays_where_another_is_added(tmp_path: Path) -> None:
    own = tmp_path / "agents.toml"
    own.write_text('[opencode]\nenvironment = { OURS = "1" }\n')
    assert named(Settings(agents=own), "opencode").environment.keys() == {"OPENCODE_PERMISSION", "OURS"}


def test_an_agent_gets_the_variables_that_it_names_and_no_others() -> None:
    spec = AgentSpec("mine", ("mine",), environment={"B": "set"}, pass_environment=("A", "B", "D"))
    assert spec.variables({"A": "1", "B": "2", "C": "3"}) == {"A": "1", "B": "set"}
