"""What is chosen and started, up to the command line: nothing here runs in a sandbox."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.errors import InfraError, Unavailable, UsageError
from holdfast.sandbox import Confinement, Hold, Mount, Network, SandboxName, choose, made
from holdfast.sandbox.bubblewrap import options
from holdfast.sandbox.limits import _properties

ARGV = ("agent", "--acp")
ENV = {"PATH": "/usr/bin", "API_KEY": "canary-19f", "HOME": "/home/ann", "TMPDIR": "/scratch", "SHELL": "/bin/zsh"}


@pytest.fixture
def confinement(tmp_path: Path) -> Confinement:
    return Confinement(
        worktree=Mount(Path("/data/worktrees/fork"), Path("/data/worktrees/trunk")),
        home=Mount.of(Path("/data/homes/fork")),
        folder=tmp_path,
        token="step-1",
        readable=(Mount.of(Path("/data/vault.git/objects")),),
        memory_bytes=1 << 30,
        max_processes=100,
        cpus=1.5,
    )


def program(folder: Path, name: str, script: str) -> Path:
    """Puts a program into a folder for PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def after(words: list[str] | tuple[str, ...], option: str) -> list[str]:
    """Gives the words that follow an option, wherever it stands."""
    return [words[i + 1] for i, word in enumerate(words[:-1]) if word == option]


# -- choice -----------------------------------------------------------------------------------------------------------


def test_without_any_sandbox_auto_refuses_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(Unavailable) as refused:
        choose("auto", image="image")
    assert (refused.value.exit_code, refused.value.code) == (5, "no_sandbox")
    for name in ("bwrap", "podman", "docker"):
        assert f"{name} is not installed" in refused.value.message
    assert "HOLDFAST_SANDBOX=none" in refused.value.hint


def test_auto_takes_the_first_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin/none")
    program(tmp_path / "bin", "bwrap", "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1")
    program(tmp_path / "bin", "podman", "echo no >&2; exit 125")
    program(tmp_path / "bin", "docker", "exit 0")
    assert choose("auto", image="image").name is SandboxName.DOCKER
    with pytest.raises(Unavailable, match="setting up uid map: Permission denied") as refused:
        choose("bubblewrap")
    assert "user namespaces" in refused.value.hint
    with pytest.raises(Unavailable, match="docker has no image"):
        choose("docker")


def test_what_did_not_work_is_asked_again_what_did_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    daemon = program(tmp_path / "bin", "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    docker = made(SandboxName.DOCKER, "image")
    assert "Cannot connect to the Docker daemon" in docker.refusal()
    program(tmp_path / "bin", "docker", "exit 0")
    assert docker.refusal() == ""
    daemon.unlink()
    assert docker.refusal() == ""


@pytest.mark.parametrize(("code", "works"), [(0, True), (127, True), (125, False), (126, False)])
def test_a_container_of_the_image_has_to_run_the_programs_in_it_need_not_be_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, works: bool
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    script = f'test "$1" = info && exit 0; echo "setrlimit: not permitted" >&2; exit {code}'
    program(tmp_path / "bin", "docker", script)
    docker = made(SandboxName.DOCKER, "image:1")
    assert docker.refusal() == (
        "" if works else "docker runs no container of the image image:1 (setrlimit: not permitted)"
    )
    if not works:
        with pytest.raises(Unavailable, match="runs no container") as refused:
            choose("docker", image="image:1")
        assert "docker pull" in refused.value.hint


def test_none_has_to_be_said_and_changes_nothing(confinement: Confinement) -> None:
    sandbox = choose("none")
    seen_in_place = replace(confinement, worktree=Mount.of(confinement.worktree.source))
    assert sandbox.wrap(seen_in_place, ARGV, ENV).argv == ARGV
    assert sandbox.wrap(seen_in_place, ARGV, ENV).env == ENV
    holds = sandbox.holds()
    assert (holds.files, holds.network, holds.memory, holds.processes) == (False, False, Hold.NOT, Hold.NOT)
    with pytest.raises(UsageError, match="only where it lies"):
        sandbox.wrap(confinement, ARGV, ENV)


def test_a_sandbox_that_there_is_not_is_a_usage_error() -> None:
    with pytest.raises(UsageError) as refused:
        choose("bubblewarp")
    assert "bubblewrap" in refused.value.hint


@pytest.mark.parametrize("hosts", [("http://example.org/",), ("localhost",), ("*",), ("example.org:0",)])
def test_a_wrong_allow_list_is_refused_before_anything_runs(confinement: Confinement, hosts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        replace(confinement, network=Network.ALLOW_LIST, hosts=hosts)


# -- bubblewrap -------------------------------------------------------------------------------------------------------


def test_bubblewrap_shares_the_network_only_where_it_is_full(confinement: Confinement) -> None:
    for network in Network:
        shared = "--unshare-net" not in options(replace(confinement, network=network), (0, 8, 0))
        assert shared == (network is Network.FULL)


def test_bubblewrap_mounts_what_was_given_and_lays_the_worktree_over_the_rest(confinement: Confinement) -> None:
    words = options(confinement, (0, 8, 0))
    worktree = words.index("/data/worktrees/fork")
    assert words[worktree - 1 : worktree + 2] == ["--bind", "/data/worktrees/fork", "/data/worktrees/trunk"]
    assert words[words.index("/data/vault.git/objects") - 1] == "--ro-bind-try"
    assert max(i for i, word in enumerate(words) if word == "--tmpfs") < worktree < words.index("--remount-ro")
    assert after(words, "--chdir") == ["/data/worktrees/trunk"]


@pytest.mark.parametrize(("version", "expected"), [((0, 4, 1), False), ((0, 8, 0), True), ((0, 11), True)])
def test_namespaces_within_are_off_where_bubblewrap_can_do_that(
    confinement: Confinement, version: tuple[int, ...], expected: bool
) -> None:
    assert ("--disable-userns" in options(confinement, version)) is expected


def test_a_bubblewrap_that_is_gone_gives_a_command_line_that_fails(
    confinement: Confinement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wrapped = made(SandboxName.BUBBLEWRAP, "").wrap(confinement, ARGV, ENV)
    assert "bwrap" in wrapped.argv
    assert wrapped.argv[-2:] == ARGV
    assert wrapped.env["HOME"] == "/data/homes/fork"
    assert "TMPDIR" not in wrapped.env


def test_a_systemd_scope_is_asked_for_every_limit(confinement: Confinement) -> None:
    words = _properties(confinement)
    assert after(words, "-p") == ["MemoryMax=1073741824", "MemorySwapMax=0", "TasksMax=100", "CPUQuota=150%"]
    assert _properties(replace(confinement, memory_bytes=0, max_processes=0, cpus=0.0)) == []


# -- containers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that writes down what it is asked, and answers with what is in `answer`."""
    script = f'echo "$@" >> {tmp_path}/asked; cat {tmp_path}/answer'
    (tmp_path / "answer").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/user/1000/docker.sock")
    return program(tmp_path / "bin", "docker", script)


def test_a_container_is_run_with_all_its_bounds(engine: Path, confinement: Confinement) -> None:
    wrapped = made(SandboxName.DOCKER, "image:1").wrap(confinement, ARGV, ENV)
    words = wrapped.argv
    assert words[:5] == (str(engine), "run", "--rm", "--init", "--interactive")
    assert words[-3:] == ("image:1", *ARGV)
    assert after(words, "--label") == ["holdfast.run=step-1"]
    assert after(words, "--network") == ["none"]
    assert after(words, "--cap-drop") == ["ALL"]
    assert "no-new-privileges" in after(words, "--security-opt")
    assert "--read-only" in words
    assert after(words, "--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert after(words, "--workdir") == ["/data/worktrees/trunk"]
    assert after(words, "--memory") == after(words, "--memory-swap") == ["1073741824"]
    assert after(words, "--pids-limit") == ["100"]
    assert after(words, "--cpus") == ["1.5"]
    assert after(words, "--mount") == [
        "type=bind,source=/data/vault.git/objects,target=/data/vault.git/objects,readonly",
        "type=bind,source=/data/homes/fork,target=/data/homes/fork",
        "type=bind,source=/data/worktrees/fork,target=/data/worktrees/trunk",
    ]


def test_a_container_is_shown_a_place_once(engine: Path, confinement: Confinement) -> None:
    twice = replace(confinement, readable=(*confinement.readable, *confinement.readable, confinement.home))
    words = made(SandboxName.DOCKER, "image:1").wrap(twice, ARGV, ENV).argv
    assert sorted(after(words, "--mount")) == sorted(
        after(made(SandboxName.DOCKER, "image:1").wrap(confinement, ARGV, ENV).argv, "--mount")
    )


def test_a_container_gets_the_commands_environment_and_the_engine_its_own(
    engine: Path, confinement: Confinement
) -> None:
    wrapped = made(SandboxName.DOCKER, "image:1").wrap(confinement, ARGV, {**ENV, "DOCKER_HOST": "tcp://other"})
    assert after(wrapped.argv, "--env") == ["HOME=/data/homes/fork", "API_KEY", "DOCKER_HOST=tcp://other"]
    assert wrapped.env["API_KEY"] == "canary-19f"
    assert wrapped.env["DOCKER_HOST"] == "unix:///run/user/1000/docker.sock"
    assert wrapped.env["PATH"] == os.environ["PATH"]
    assert not any("canary-19f" in word for word in wrapped.argv)


def test_a_container_with_an_allow_list_runs_within_the_gate(engine: Path, confinement: Confinement) -> None:
    gated = replace(confinement, network=Network.ALLOW_LIST, hosts=("example.org", "localhost:8080"))
    words = made(SandboxName.DOCKER, "image:1").wrap(gated, ARGV, ENV).argv
    end = words.index("--")
    assert words[4 : end + 3] == (str(confinement.folder), *gated.hosts, "--", str(engine), "run")
    assert after(words, "--network") == ["none"]
    assert (
        words[-10:]
        == ("image:1", "python3", "-I", "-S", "/run/holdfast/enter.py", "0", "0", "/run/holdfast/gate", "8080", *ARGV)[
            -10:
        ]
    )


def test_a_path_that_the_engine_would_misread_is_refused(engine: Path, confinement: Confinement) -> None:
    odd = Mount.of(Path("/data/a,readonly=false"))
    with pytest.raises(UsageError, match="cannot be shown the path"):
        made(SandboxName.DOCKER, "image:1").wrap(replace(confinement, worktree=odd), ARGV, ENV)


def test_the_containers_of_a_run_are_found_by_its_token_and_removed(engine: Path, tmp_path: Path) -> None:
    docker = made(SandboxName.DOCKER, "image:1")
    assert docker.end("step-1") == 0
    (tmp_path / "answer").write_text("c1\nc2\n")
    assert docker.end("step-1") == 2
    find = "ps --all --quiet --filter label=holdfast.run=step-1"
    assert (tmp_path / "asked").read_text().splitlines() == [find, find, "rm --force c1 c2"]


def test_an_engine_that_does_not_answer_is_nobodys_task_failure(engine: Path) -> None:
    engine.write_text("#!/bin/sh\necho 'daemon is gone' >&2; exit 1\n")
    with pytest.raises(InfraError, match="daemon is gone"):
        made(SandboxName.DOCKER, "image:1").end("step-1")
