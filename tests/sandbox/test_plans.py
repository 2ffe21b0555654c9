"""Plans whose commands run confined, and what a project is told where nothing can confine them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.conftest import opened, repository, settings  # noqa: F401 - the fixture of a repository
from tests.sandbox.boxes import IMAGE
from tests.sandbox.conftest import working

from holdfast.app import agents, plans, projects, steps, supervisor
from holdfast.domain.planfile import parse
from holdfast.errors import Unavailable, UsageError
from holdfast.sandbox import made, named

SOURCE = Path(__file__).parents[2] / "src"

PLAN = """
title: Confined
verify: ['test "$(cat seen)" = hidden']
phases:
  - title: Only
    tasks:
      - title: Look around
        key: look
        run: |
          git log -1 --format=%s > log
          test -e {secret} && echo seen > seen || echo hidden > seen
          echo kept > "$HOME/kept"
          env | grep -q '^HOLDFAST_TASK=T1$'
        verify: ['test -e "$HOME/kept"', 'git status --short']
"""


@pytest.fixture
def bubblewrap() -> None:
    if why := made(named("bubblewrap"), "").refusal():
        pytest.skip(why)


@pytest.mark.usefixtures("bubblewrap")
def test_a_plan_runs_confined_and_its_steps_say_so(tmp_path: Path, repository: Path) -> None:  # noqa: F811
    chosen = replace(settings(tmp_path), sandbox="bubblewrap", sandbox_network="none", sandbox_max_processes=500)
    for bench in opened(chosen, repository):
        view = bench.run(PLAN.format(secret=bench.house.places.data / "holdfast.db"))
        assert view.plan.status == "completed", view.tasks[0].error + view.plan.error
        branch = view.plan.branch
        assert bench.files(branch)["seen"] == "hidden\n"
        assert bench.files(branch)["log"] == "first\n"
        told = steps.get(bench.house, bench.project, 1).step.agent_config
        assert (told["sandbox"], told["network"]) == ("bubblewrap", "none")
        assert str(told["limits"]).startswith("500 processes")
        home = bench.house.places.task_home(view.plan, view.tasks[0])
        assert (home / "kept").read_text() == "kept\n"


def test_where_nothing_can_confine_it_a_plan_is_refused_and_nothing_is_stored(
    tmp_path: Path,
    repository: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", path_without_sandboxes(tmp_path))
    for bench in opened(replace(settings(tmp_path), sandbox="auto"), repository):
        file = parse(PLAN.format(secret="/"), source="plan.yaml")
        with pytest.raises(Unavailable, match="no sandbox works here"):
            plans.create(bench.house, bench.project, file, to_run=True)
        draft = plans.create(bench.house, bench.project, file)
        with pytest.raises(Unavailable, match="no sandbox works here"):
            plans.execute(bench.house, draft.id)
        assert plans.show(bench.house, draft.id).plan.status == "draft"


@pytest.mark.parametrize(
    "wrong",
    [{"sandbox": "bwrap"}, {"sandbox_network": "some"}, {"sandbox_hosts": "a.org,*"}, {"sandbox_readable": "relative"}],
)
def test_a_setting_that_cannot_be_one_is_told_before_a_plan_starts(
    tmp_path: Path,
    repository: Path,  # noqa: F811
    wrong: dict[str, str],
) -> None:
    for bench in opened(replace(settings(tmp_path), **wrong), repository):
        with pytest.raises(UsageError):
            plans.create(bench.house, bench.project, parse(PLAN, source="plan.yaml"), to_run=True)


def test_init_chooses_none_only_where_nothing_works_and_says_so(
    tmp_path: Path,
    repository: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", path_without_sandboxes(tmp_path))
    for bench in opened(replace(settings(tmp_path), sandbox=""), repository):
        assert bench.project.settings == {"sandbox": "none"}
        assert projects.unconfined(bench.house, bench.project)
        with pytest.raises(Unavailable) as refused:
            projects.init(bench.house, repository, sandbox="bubblewrap")
        assert refused.value.exit_code == 5


@pytest.mark.usefixtures("bubblewrap")
def test_init_chooses_auto_where_it_works_and_takes_what_is_said(tmp_path: Path, repository: Path) -> None:  # noqa: F811
    for bench in opened(replace(settings(tmp_path), sandbox=""), repository):
        assert bench.project.settings == {"sandbox": "auto"}
        assert not projects.unconfined(bench.house, bench.project)
        again = projects.init(bench.house, repository, sandbox="none", include_ignored=["*.secret"])
        assert again.project.settings == {"sandbox": "none", "include_ignored": ["*.secret"]}


def test_the_program_says_that_a_project_is_not_confined(tmp_path: Path, repository: Path) -> None:  # noqa: F811
    environment = {**os.environ, "PATH": path_without_sandboxes(tmp_path), "HOLDFAST_DATA": str(tmp_path / "data")}
    environment.pop("HOLDFAST_SANDBOX", None)
    line = [sys.executable, "-m", "holdfast", "init"]
    done = subprocess.run(line, cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unconfined" in done.stderr
    assert "holdfast init --sandbox auto" in done.stderr


@pytest.mark.usefixtures("bubblewrap")
def test_a_supervisor_can_read_the_files_of_its_plan_and_change_none(tmp_path: Path, repository: Path) -> None:  # noqa: F811
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    look = "cat README; echo mine > mine.txt; echo over > README; rm README; mkdir .git; echo kept > ~/kept; cat ~/kept"
    script = scripts / "agent.json"
    script.write_text(json.dumps({"turns": [[{"run": look}, {"say": "{output}"}]]}))
    command = json.dumps([sys.executable, "-m", "holdfast.agents.scripted", str(script)])
    (scripts / "agents.toml").write_text(f"[boss]\ncommand = {command}\n")
    chosen = replace(
        settings(tmp_path),
        sandbox="bubblewrap",
        sandbox_readable=f"{SOURCE}:{scripts}",
        agents=scripts / "agents.toml",
    )
    for bench in opened(chosen, repository):
        plan = plans.create(bench.house, bench.project, parse(PLAN.format(secret="/"), source="plan.yaml"))
        answer = supervisor.ask(bench.house, plan.id, "What is there?", agent="boss").answer
        assert answer.splitlines()[0] == "hello"
        assert answer.count("Read-only file system") == 4
        assert answer.rstrip().endswith("kept"), "its home is its own"
        files = bench.house.places.supervisor(plan.id) / "files"
        assert sorted(path.name for path in files.iterdir()) == [".gitignore", "README"]
        assert (files / "README").read_text() == "hello\n"


@pytest.mark.usefixtures("bubblewrap")
def test_an_agent_is_checked_in_the_sandbox_of_its_tasks(tmp_path: Path, repository: Path) -> None:  # noqa: F811
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "agent.json").write_text(json.dumps({"turns": [[{"usage": {"input": 7, "cost": 0.5, "used": 7}}]]}))
    command = json.dumps([sys.executable, "-m", "holdfast.agents.scripted", str(scripts / "agent.json")])
    (scripts / "agents.toml").write_text(f"[mine]\ncommand = {command}\n")
    chosen = replace(
        settings(tmp_path), sandbox="bubblewrap", sandbox_readable=str(SOURCE), agents=scripts / "agents.toml"
    )
    for bench in opened(chosen, repository):
        with pytest.raises(Unavailable, match="opened no session in the sandbox bubblewrap") as refused:
            agents.check(bench.house, "mine", path=repository)
        assert "HOLDFAST_SANDBOX=none" in refused.value.hint
        bench.house.settings.sandbox_readable = f"{SOURCE}:{scripts}"
        checked = agents.check(bench.house, "mine", path=repository, prompt=True)
        assert (checked.sandbox, checked.project) == ("bubblewrap", bench.project.slug)
        assert checked.usage is not None
        assert (checked.usage.total_tokens, checked.usage.cost_usd) == (7, 0.5)
        assert not list(bench.house.places.draft("").iterdir())


def path_without_sandboxes(tmp_path: Path) -> str:
    """Gives a PATH on which git is, and no program that could confine anything."""
    folder = tmp_path / "bin"
    folder.mkdir()
    git = subprocess.run(["sh", "-c", "command -v git"], check=True, capture_output=True, text=True).stdout.strip()
    (folder / "git").symlink_to(git)
    return str(folder)


@pytest.mark.parametrize("sandbox", ["bubblewrap", pytest.param("podman", marks=pytest.mark.campaign)])
def test_a_confined_agent_is_logged_in_and_sees_its_own_folders_of_the_home_only(
    tmp_path: Path,
    repository: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    sandbox: str,
) -> None:
    working(sandbox, request.getfixturevalue("podman") if sandbox == "podman" else "")
    home, scripts = tmp_path / "home", tmp_path / "scripts"
    (home / ".holdfast-scripted").mkdir(parents=True)
    (home / ".holdfast-scripted" / "login").write_text("a token\n")
    (home / "private").write_text("")
    (home / ".scripted.json").write_text("who I am\n")
    (home / ".config" / "scripted").mkdir(parents=True)
    (home / ".config" / "scripted" / "model").write_text("small\n")
    (tmp_path / "moved" / "kept").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SCRIPTED_HOME", str(tmp_path / "moved"))
    monkeypatch.setenv("SCRIPTED_ALL", str(home))
    scripts.mkdir()
    anew = "cat ~/.scripted.json > copied; echo other > ~/new; mv ~/new ~/.scripted.json"
    moved = (
        "cat ~/.config/scripted/model > model; echo x > ~/.config/scripted/model || echo kept > $SCRIPTED_HOME/kept/it"
    )
    look = f"cat ~/.holdfast-scripted/login > login; ls -A ~ > seen; {moved}; test ! -e {home}/private; {anew}"
    script = scripts / "agent.json"
    actions = [{"run": look}, {"run": {"command": "ls -A ~ > seen-by-terminal", "terminal": True}}, {"say": "Done."}]
    script.write_text(json.dumps({"turns": [actions]}))
    command = json.dumps([sys.executable, "-m", "holdfast.agents.scripted", str(script)])
    (scripts / "agents.toml").write_text(
        f'[worker]\ncommand = {command}\ncopies = [".scripted.json"]\n'
        'sessions = [".holdfast-scripted", "${SCRIPTED_HOME:-.none}/kept", "$SCRIPTED_ALL"]\n'
        'reads = [".config/scripted", "$NOBODY_SET"]\npass_environment = ["SCRIPTED_HOME", "SCRIPTED_ALL"]\n'
    )
    # The image has no programs but those of this machine.
    programs = f":/usr:{sys.base_prefix}:{sys.prefix}"  # the agent is shown them too
    chosen = replace(
        settings(tmp_path),
        sandbox=sandbox,
        sandbox_image=IMAGE,
        sandbox_readable=f"{SOURCE}:{scripts}" + (programs if sandbox == "podman" else ""),
        agents=scripts / "agents.toml",
        permissions="allow-all",
    )
    for bench in opened(chosen, repository):
        view = bench.run(
            "title: T\nphases: [{title: a, tasks: [{title: t, agent: worker, instructions: Do it, max_attempts: 1}]}]"
        )
        assert view.plan.status == "completed", view.tasks[0].error
        files = bench.files(view.plan.branch)
        assert files["login"] == "a token\n"
        assert files["seen"] == files["seen-by-terminal"] == ".config\n.holdfast-scripted\n.scripted.json\n"
        assert (files["model"], (home / ".config" / "scripted" / "model").read_text()) == ("small\n", "small\n")
        assert (tmp_path / "moved" / "kept" / "it").read_text() == "kept\n"
        assert (files["copied"], (home / ".scripted.json").read_text()) == ("who I am\n", "who I am\n")
        assert view.steps[0].agent_config["sandbox"] == sandbox
    assert list((home / ".holdfast-scripted").glob("session-*.json")), "its sessions are where the user has them"
