"""What a confined command can see, change, reach and use up: one suite for every sandbox that works here."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.agents.runs import eventually
from tests.sandbox.boxes import Box

from holdfast.agents import RunState, kill_strays, state
from holdfast.sandbox import Mount, Network

FETCH = """
import sys, urllib.request, urllib.error
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=20).read().decode().strip())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode().strip())
    except OSError as error:
        print("unreachable")
"""


# -- files ------------------------------------------------------------------------------------------------------------


async def test_the_command_works_in_its_worktree_at_its_own_path(box: Box) -> None:
    (box.worktree / "there").write_text("before\n")
    done = await box.go("pwd; cat there; echo after > made; id -u")
    assert done.exit_code == 0, done.last_output
    assert box.said().split() == [str(box.worktree), "before", str(os.getuid())]
    assert (box.worktree / "made").read_text() == "after\n"
    assert (box.worktree / "made").stat().st_uid == os.getuid()


async def test_a_worktree_can_be_seen_where_another_one_was(box: Box, tmp_path: Path) -> None:
    trunk = tmp_path / "trunk"
    done = await box.go("pwd; echo fork > made", worktree=Mount(box.worktree, trunk))
    assert done.exit_code == 0, done.last_output
    assert box.said().split() == [str(trunk)]
    assert (box.worktree / "made").exists()
    assert not trunk.exists()


async def test_nothing_beside_the_worktree_can_be_read(box: Box, tmp_path: Path) -> None:
    (tmp_path / "other-worktree").mkdir()
    hidden = [tmp_path / "holdfast.db", tmp_path / "other-worktree" / "secret", box.run.folder / "journal.jsonl"]
    for path in hidden[:2]:
        path.write_text("secret")
    hidden += [path for path in Path.home().iterdir() if path.is_file()]
    hidden += [Path("/etc/shadow"), Path("/run/systemd"), Path("/var/run/docker.sock")]
    tried = " ".join(f"'{path}'" for path in hidden)
    done = await box.go(f"for path in {tried}; do test -e $path && echo seen $path; done; true")
    assert done.exit_code == 0, done.last_output
    assert box.said() == ""


async def test_nothing_outside_can_be_written(box: Box, tmp_path: Path) -> None:
    outside = [Path("/made"), Path("/usr/made"), Path("/etc/made"), Path("/var/made")]
    outside += [Path("/proc/sys/kernel/hostname"), Path("/proc/sys/kernel/core_pattern"), Path("/proc/sysrq-trigger")]
    tried = " ".join(f"'{path}'" for path in outside)
    # An empty write: where it is allowed all the same, it changes nothing.
    done = await box.go(
        f"for path in {tried}; do (: >> $path) 2>/dev/null && echo wrote $path; done; touch {tmp_path}/made"
    )
    assert box.said() == ""
    # Folders that only lead to the worktree are the sandbox's own.
    assert not any(path.exists() for path in (*outside[:4], tmp_path / "made"))
    assert done.reason == "exit"


async def test_what_is_readable_is_not_writable(box: Box, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tool").write_text("tool\n")
    readable = (*box.confinement.readable, Mount.of(tools))
    done = await box.go(f"cat {tools}/tool; (echo x > {tools}/tool) 2>/dev/null || echo refused", readable=readable)
    assert (done.exit_code, box.said().split()) == (0, ["tool", "refused"])
    assert (tools / "tool").read_text() == "tool\n"


async def test_the_home_is_the_tasks_own_and_is_kept(box: Box) -> None:
    done = await box.go('echo session > "$HOME/session"; echo "$HOME"')
    assert (done.exit_code, box.said().strip()) == (0, str(box.home))
    assert (box.home / "session").read_text() == "session\n"


async def test_the_temporary_folder_is_private_and_programs_in_it_run(box: Box) -> None:
    script = "printf '#!/bin/sh\\necho ran\\n' > /tmp/script; chmod +x /tmp/script; /tmp/script"
    mark = f"holdfast-test-{box.run.token}"
    done = await box.go(f"{script}; touch /tmp/{mark}")
    assert (done.exit_code, box.said().split()) == (0, ["ran"])
    assert mark not in os.listdir("/tmp")


async def test_there_are_no_capabilities_and_no_way_to_get_them(box: Box) -> None:
    done = await box.go(
        "grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status; unshare -U true 2>/dev/null && echo nested; true"
    )
    assert done.exit_code == 0
    status = dict(line.split(":\t") for line in box.said().splitlines() if ":" in line)
    assert int(status.pop("NoNewPrivs")) == 1
    assert {int(value, 16) for value in status.values()} == {0}
    assert box.sandbox.name != "bubblewrap" or "nested" not in box.said()


async def test_other_processes_cannot_be_seen(box: Box) -> None:
    done = await box.go("ls /proc | grep -c '^[0-9]'")
    assert done.exit_code == 0
    assert int(box.said()) < 10


async def test_the_environment_is_what_was_given_and_on_no_command_line(box: Box) -> None:
    launch = box.launch("env", env={"SECRET": "canary-7c1"})
    assert launch.argv is not None
    assert not any("canary-7c1" in word for word in launch.argv)
    done = await box.go("env", env={"SECRET": "canary-7c1", "TERM": "dumb"})
    names = {line.partition("=")[0] for line in box.said().splitlines()}
    assert done.exit_code == 0
    assert "SECRET=canary-7c1" in box.said().splitlines()
    added = {"PWD", "SHLVL", "_", "OLDPWD", "HOLDFAST_RUN_TOKEN", "HOSTNAME", "container"}
    assert names - added == {"PATH", "HOME", "SECRET", "TERM"}


# -- network ----------------------------------------------------------------------------------------------------------


def fetch(*urls: str, prefix: str = "") -> str:
    return f"{prefix} /usr/bin/python3 -c '{FETCH}' {' '.join(urls)}"


async def test_without_a_network_nothing_is_reached(box: Box, port: int) -> None:
    done = await box.go(f"tail -n +3 /proc/net/dev | cut -d: -f1; {fetch(f'http://127.0.0.1:{port}/')}")
    assert done.exit_code == 0, done.last_output
    assert "lo" in box.said().split()
    assert box.said().splitlines()[-1] == "unreachable"


async def test_the_allow_list_lets_one_through_and_not_the_other(box: Box, port: int) -> None:
    urls = [f"http://localhost:{port}/", "http://example.org/", f"http://127.0.0.1:{port + 1}/", "http://10.1.2.3/"]
    # Once as a client would that goes to localhost directly, once through the proxy whatever the host.
    shell = f"{fetch(*urls)}; {fetch(*urls, prefix='NO_PROXY= no_proxy=')}"
    done = await box.go(shell, network=Network.ALLOW_LIST, hosts=(f"localhost:{port}",))
    assert done.exit_code == 0, done.last_output
    refused = "403 holdfast: {} is not in the allow-list"
    direct, through = box.said().splitlines()[:4], box.said().splitlines()[4:]
    assert direct == ["served", refused.format("example.org:80"), "unreachable", refused.format("10.1.2.3:80")]
    assert through[0] == "served"
    assert through[2] == refused.format(f"127.0.0.1:{port + 1}")
    denied = [json.loads(line) for line in (box.run.folder / "denied.jsonl").read_text().splitlines()]
    assert [each["host"] for each in denied] == ["example.org", "10.1.2.3", "127.0.0.1"]


async def test_what_the_command_serves_on_its_own_loopback_is_reached_directly(box: Box) -> None:
    serve = "/usr/bin/python3 -m http.server 18080 --bind 127.0.0.1 >/dev/null 2>&1 &"
    wait = f"until {fetch('http://127.0.0.1:18080/')} | grep -q Directory; do sleep 0.1; done; echo reached"
    done = await box.go(f"{serve} {wait}", network=Network.ALLOW_LIST, hosts=("example.org",))
    assert (done.exit_code, box.said().strip()) == (0, "reached")


# -- life and death ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shell", "code"), [("exit 7", 7), ("kill -SEGV $$", 139), ("exec /no/such/program", 127)])
async def test_the_exit_code_passes_through(box: Box, shell: str, code: int) -> None:
    done = await box.go(shell)
    assert (done.reason, done.exit_code) == ("exit", code)


async def test_input_passes_through(box: Box) -> None:
    launch = box.launch("cat; echo said >&2")
    done = await asyncio.to_thread(
        subprocess.run, launch.argv, env=launch.env, cwd=launch.cwd, input=b"hello", capture_output=True
    )
    assert (done.returncode, done.stdout) == (0, b"hello")
    assert b"said" in done.stderr


@pytest.mark.parametrize("network", [Network.NONE, Network.ALLOW_LIST])
async def test_a_stop_reaches_the_command_which_ends_in_its_own_way(box: Box, network: Network) -> None:
    shell = "trap 'echo ended > ended; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    going = asyncio.create_task(box.go(shell, network=network, options={"grace_seconds": 60.0}))
    await box.run.said.wait()
    box.run.stop.set()
    done = await going
    assert (done.reason, done.exit_code) == ("stopped", 5), done.last_output
    assert (box.worktree / "ended").read_text() == "ended\n"


async def test_what_ignores_a_stop_is_killed_with_all_its_children(box: Box) -> None:
    shell = "trap '' TERM; (flock 9; echo ready; while :; do sleep 0.05; done) 9>held"
    going = asyncio.create_task(box.go(shell, options={"grace_seconds": 0.3}))
    await box.run.said.wait()
    box.run.stop.set()
    assert (await going).reason == "stopped"
    box.sandbox.end(box.run.token)
    await asyncio.to_thread(take, box.worktree / "held")


async def test_what_a_command_leaves_behind_ends_with_it(box: Box) -> None:
    done = await box.go("(flock 9; touch ready; sleep 600) 9>held & until test -e ready; do sleep 0.02; done")
    assert done.exit_code == 0
    await asyncio.to_thread(take, box.worktree / "held")


async def test_nothing_lives_on_where_the_shim_was_killed(box: Box) -> None:
    going = asyncio.create_task(box.go("(flock 9; echo ready; sleep 600) 9>held"))
    await box.run.said.wait()
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    os.kill(box.run.shim(), signal.SIGKILL)
    eventually(lambda: state(box.run.folder) is RunState.LOST)
    kill_strays(box.run.token)
    box.sandbox.end(box.run.token)
    await asyncio.to_thread(take, box.worktree / "held")


def take(path: Path) -> None:
    """Waits until nobody holds the lock that a command had on the file: then no process of it is alive."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)


@pytest.mark.parametrize("network", [Network.NONE, Network.ALLOW_LIST])
async def test_a_second_worker_adopts_what_the_killed_one_had_started(box: Box, port: int, network: Network) -> None:
    # It waits for the second worker, and only then needs the network.
    shell = f"echo ran >> effects; until test -e go; do sleep 0.02; done; {fetch(f'http://localhost:{port}/')}; exit 7"
    launch = box.launch(shell, network=network, hosts=(f"localhost:{port}",))
    given = json.dumps({**asdict(launch), "env": dict(launch.env)})
    first = "import sys, json, pathlib; from holdfast.agents import Launch, start; "
    first += "start(pathlib.Path(sys.argv[1]), Launch(**json.loads(sys.argv[2])))"
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", first, str(box.run.folder), given],
        env={**os.environ, "HOLDFAST_FAILPOINT": "launch.started"},
    )
    assert killed.returncode == -signal.SIGKILL
    (box.worktree / "go").touch()
    done = await box.go(shell, network=network, hosts=(f"localhost:{port}",))
    assert done.exit_code == 7
    assert (box.worktree / "effects").read_text() == "ran\n"
    assert box.said().strip() == ("served" if network is Network.ALLOW_LIST else "unreachable")


# -- limits -----------------------------------------------------------------------------------------------------------

FORKS = """
import os, time
forked = 0
try:
    while forked < 200:
        if os.fork() == 0:
            time.sleep(600)
        forked += 1
except OSError:
    pass
print(forked)
"""


async def test_memory_is_bounded(box: Box) -> None:
    python = "/usr/bin/python3 -c 'held = bytearray(400 << 20); print(len(held))'"
    done = await box.go(python, memory_bytes=100 << 20)
    assert done.exit_code not in (0, None)
    assert box.said() == ""


async def test_a_fork_bomb_is_bounded(box: Box) -> None:
    if box.sandbox.name == "bubblewrap" and os.getuid() == 0:
        pytest.skip("Linux counts no processes for root; the test after this one does it as another user")
    done = await box.go(f"/usr/bin/python3 -c '{FORKS}'", max_processes=40)
    assert done.exit_code == 0, done.last_output
    assert 10 < int(box.said()) < 40


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine may enter; those of pytest are for one."""
    with tempfile.TemporaryDirectory(prefix="holdfast-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_a_fork_bomb_of_a_user_is_bounded_whatever_else_the_user_runs(
    wrapped: Box, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = 54321
    worktree, home = open_folder / "worktree", open_folder / "home"
    for folder in (worktree, home):
        folder.mkdir()
        os.chown(folder, somebody, somebody)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    shell = f"/usr/bin/python3 -c '{FORKS}'"
    launch = wrapped.launch(shell, worktree=Mount.of(worktree), home=Mount.of(home), max_processes=40)
    others = [subprocess.Popen(["sleep", "600"], user=somebody) for _ in range(45)]
    try:
        done = subprocess.run(
            launch.argv, env=launch.env, cwd=worktree, capture_output=True, text=True, user=somebody, group=somebody
        )
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert done.returncode == 0, done.stderr
    assert 10 < int(done.stdout) < 40


def test_a_hidden_folder_is_empty_though_a_system_folder_shows_it(wrapped: Box, tmp_path: Path) -> None:
    hidden = Path("/opt") / f"holdfast-test-{os.getpid()}"
    if not os.access("/opt", os.W_OK):
        pytest.skip("/opt cannot be written")
    hidden.mkdir()
    try:
        (hidden / "secret").touch()
        wrapped.confinement = replace(wrapped.confinement, hidden=(hidden,))
        launch = wrapped.launch(f"ls -A {hidden}")
        done = subprocess.run(launch.argv, env=launch.env, cwd=launch.cwd, capture_output=True, text=True)
    finally:
        (hidden / "secret").unlink()
        hidden.rmdir()
    assert (done.returncode, done.stdout) == (0, "")
