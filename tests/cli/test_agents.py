"""`agent list` and `agent show`, on a PATH of the test's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Program


@pytest.fixture
def here(program: Program) -> Program:
    """The program with one agent of the user's own on its PATH, and no known one."""
    folder = program.home / "bin"
    folder.mkdir()
    script = folder / "mine"
    script.write_text("#!/bin/sh\necho mine 1.2.3\n", encoding="utf-8")
    script.chmod(0o755)
    own = program.home / "agents.toml"
    own.write_text(
        '[mine]\ntitle = "Mine"\ncommand = ["mine"]\nversion = ["-V"]\nlogin = "mine login"\n'
        'environment = { KEY = "s3cret" }\n',
        encoding="utf-8",
    )
    program.environment |= {"HOLDFAST_AGENTS": str(own), "PATH": f"{folder}:{Path(sys.executable).parent}"}
    return program


def test_agents_are_listed_as_found_with_their_version_or_missing_with_how_to_get_them(here: Program) -> None:
    listed = here("agent", "list", "--json").json["items"]
    by_name = {each["name"]: each for each in listed}
    assert (by_name["mine"]["found"], by_name["mine"]["version"]) == (True, "1.2.3")
    assert by_name["mine"]["hint"] == "mine login"
    assert by_name["opencode"]["found"] is False
    assert by_name["opencode"]["hint"] == "npm install -g opencode-ai"
    assert by_name["opencode"]["spec"]["verified"].startswith("ran: ")


def test_only_those_on_this_machine_are_listed_when_asked(here: Program) -> None:
    shown = here("agent", "list", "--found")
    assert shown.code == 0
    assert [line.split()[0] for line in shown.out.splitlines()] == ["agent", "mine"]


def test_a_key_in_the_file_is_never_shown(here: Program) -> None:
    for words in (("list", "--json"), ("show", "mine"), ("show", "mine", "--json")):
        shown = here("agent", *words)
        assert shown.code == 0
        assert "s3cret" not in shown.out
        assert words[0] == "list" or "KEY" in shown.out


def test_a_wrong_file_is_named_with_its_line(here: Program) -> None:
    (here.home / "agents.toml").write_text('[mine]\ncommand = ["mine"]\nmodle = "x"\n', encoding="utf-8")
    shown = here("agent", "list")
    assert shown.code == 2
    assert "agents.toml:3: [mine] has no key 'modle'" in shown.err
    assert "did you mean 'mode'" in shown.err or "did you mean 'model'" in shown.err


def test_an_unknown_agent_is_not_found(here: Program) -> None:
    shown = here("agent", "show", "opncode")
    assert shown.code == 4
    assert "did you mean 'opencode'?" in shown.err


SPEAKS = """#!{python}
import json, os, sys
if "-V" in sys.argv:
    sys.exit(print("mine 1.2.3"))
open("began", "w").close()
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        can = {{"loadSession": True, "sessionCapabilities": {{"fork": {{}}}}}}
        told = {{"protocolVersion": 1, "agentCapabilities": can, "agentInfo": {{"name": "mine", "version": "9"}}}}
    elif asked["method"] == "authenticate" and asked["params"] == {{"methodId": "word"}}:
        os.environ["KEY"], told = "given", {{}}
    elif asked["method"] == "session/new" and not os.environ.get("KEY"):
        error = {{"code": -32000, "message": "Authentication required"}}
        print(json.dumps({{"jsonrpc": "2.0", "id": asked["id"], "error": error}}), flush=True)
        continue
    elif asked["method"] == "session/new":
        modes = [{{"id": "code", "name": "Code"}}, {{"id": "plan", "name": "Plan"}}]
        told = {{"sessionId": "s1", "modes": {{"currentModeId": "code", "availableModes": modes}}}}
    elif asked["method"] == "session/prompt" and "-p" in sys.argv:
        usage = {{"inputTokens": 9, "outputTokens": 1, "totalTokens": 10}}
        told = {{"stopReason": "end_turn", "usage": usage}}
    else:
        sys.exit("nothing else may be asked: " + asked["method"])
    print(json.dumps({{"jsonrpc": "2.0", "id": asked["id"], "result": told}}), flush=True)
"""


@pytest.fixture
def speaking(here: Program) -> Program:
    """As `here`, where the agent speaks ACP, and takes no prompt."""
    (here.home / "bin" / "mine").write_text(SPEAKS.format(python=sys.executable), encoding="utf-8")
    return here


def test_a_check_opens_a_session_sends_no_prompt_and_says_what_the_agent_can_do(speaking: Program) -> None:
    shown = speaking("agent", "check", "mine", "--json")
    assert shown.code == 0, shown.err
    can = shown.json["can"]
    assert (can["version"], can["load"], can["fork"], can["resume"]) == ("9", True, True, False)
    assert [mode["id"] for mode in can["modes"]] == ["code", "plan"]
    assert not (speaking.repository / "began").exists()
    assert (shown.json["prompted"], shown.json["usage"], shown.json["project"]) == (False, None, "")
    told = speaking("agent", "check", "mine").out
    assert "goes on with a session  yes" in told
    assert "not told before its first turn: add --prompt" in told
    assert "none: this is no project" in told


def test_a_check_in_a_project_names_the_sandbox_and_with_a_prompt_what_the_agent_tells(speaking: Program) -> None:
    assert speaking("init", "--sandbox", "none", PATH=os.environ["PATH"]).code == 0
    own = speaking.home / "agents.toml"
    own.write_text(own.read_text().replace('command = ["mine"]', 'command = ["mine", "-p"]'), encoding="utf-8")
    checked = speaking("agent", "check", "mine", "--prompt", "--project", "shop").out
    assert "none, as in a task of shop" in checked
    assert "tokens; their cost follows from prices" in checked
    assert not list((speaking.data / "drafts").iterdir()), "nothing is left of it"


def test_a_check_tells_how_to_log_in_where_the_agent_wants_that(speaking: Program) -> None:
    own = speaking.home / "agents.toml"
    own.write_text(own.read_text().replace('environment = { KEY = "s3cret" }\n', ""), encoding="utf-8")
    shown = speaking("agent", "check", "mine")
    assert shown.code == 5
    assert "not logged in" in shown.err
    assert "mine login" in shown.err
    own.write_text(f'{own.read_text()}auth_method = "word"\n', encoding="utf-8")
    assert speaking("agent", "check", "mine").code == 0


def test_a_check_of_a_program_that_is_no_agent_says_what_it_did(here: Program) -> None:
    script = here.home / "bin" / "mine"
    script.write_text("#!/bin/sh\necho cannot find my configuration >&2\nexit 3\n", encoding="utf-8")
    shown = here("agent", "check", "mine")
    assert shown.code == 5
    assert "exit code 3" in shown.err
    assert "cannot find my configuration" in shown.err


def test_a_check_of_an_agent_that_is_not_here_says_how_to_get_it(here: Program) -> None:
    shown = here("agent", "check", "opencode")
    assert shown.code == 5
    assert "npm install -g opencode-ai" in shown.err
