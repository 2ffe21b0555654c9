"""Which sandbox a project's commands run in, and what they see there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast.agents import Launch, catalog, kill_strays
from holdfast.agents.catalog import AgentSpec, Missing, program
from holdfast.agents.installed import installed
from holdfast.domain.plan import Plan, Project
from holdfast.domain.task import Task
from holdfast.engine.places import Places
from holdfast.errors import UsageError
from holdfast.sandbox import Confinement, Hold, Mount, Network, Sandbox, SandboxName, choose, made
from holdfast.settings import Settings

SETTING = "sandbox"
# In the folder of an agent's run: the door to the tools that it is offered.
TOOLS_FOLDER = "tools"


def sandbox_of(settings: Settings, project: Project) -> Sandbox:
    """Gives the sandbox of a project's commands: HOLDFAST_SANDBOX if it is set, else the project's own, else `auto`.

    Raises `Unavailable` if it does not work here, and `UsageError` for a setting that cannot be one.
    """
    _unplaced(settings)
    return choose(asked(settings, project), image=settings.sandbox_image)


def asked(settings: Settings, project: Project) -> str:
    """Gives the name that counts for a project's commands."""
    return settings.sandbox or str(project.settings.get(SETTING, SandboxName.AUTO))


def recorded(settings: Settings, configuration: Mapping[str, object]) -> Sandbox:
    """Gives the sandbox that a step was begun with: it stays the same, whoever goes on with the step."""
    return made(SandboxName(str(configuration.get(SETTING, SandboxName.NONE))), settings.sandbox_image)


def described(settings: Settings, project: Project) -> dict[str, object]:
    """Gives what a step keeps of how its commands are confined; raises as `sandbox_of` does."""
    sandbox = sandbox_of(settings, project)
    if sandbox.name is SandboxName.NONE:
        return {SETTING: str(sandbox.name)}
    return {
        SETTING: str(sandbox.name),
        "network": str(network_of(settings)),
        "hosts": settings.sandbox_hosts if network_of(settings) is Network.ALLOW_LIST else "",
        "limits": limits(settings, sandbox),
    }


@dataclass(frozen=True, slots=True)
class Shown:
    """What a run sees beside what all runs of its task do; `copies` are files that its home is given."""

    readable: tuple[Mount, ...] = ()
    writable: tuple[Mount, ...] = ()
    copies: tuple[Path, ...] = ()


def shown_to_agent(sandbox: Sandbox, places: Places, home: Path, spec: AgentSpec) -> tuple[tuple[str, ...], Shown]:
    """Gives the command line of an agent and what it sees: its program, and where it keeps logins and sessions.

    Those folders are the user's own, at the same place below `home`, or where a variable names them: who is logged in
    stays logged in. One that the user does not have is the run's. Files beside them are copied: a program that writes
    one anew puts another in its place, which a mount would not let it. Without a sandbox nothing has to be shown.
    """
    if sandbox.name is SandboxName.NONE or isinstance(place := program(spec), Missing):
        return spec.command, Shown()
    never = (Path.home(), places.data)
    own = installed(place, never)
    readable = (*map(Mount.of, own.readable), *_own(spec, spec.reads, home, never))
    copies = tuple(Path.home() / name for name in spec.copies)
    return (str(own.program), *spec.command[1:]), Shown(readable, _own(spec, spec.sessions, home, never), copies)


def _own(spec: AgentSpec, names: Sequence[str], home: Path, never: Sequence[Path]) -> tuple[Mount, ...]:
    """Gives the user's own folders and files of these names that are there, but none that one of `never` lies in."""
    variables = spec.variables(os.environ)
    found = [known for name in names if (known := catalog.place(name, variables))]
    # What a variable names keeps its place, as the agent is told that.
    mounts = [Mount(Path.home() / each, home / each) for each in found]
    return tuple(
        mount
        for mount in mounts
        if mount.source.exists() and not any(folder.is_relative_to(mount.source) for folder in never)
    )


def confined(
    launch: Launch,
    sandbox: Sandbox,
    settings: Settings,
    places: Places,
    plan: Plan,
    task: Task | None,
    folder: Path,
    shown: Shown | None = None,
) -> Launch:
    """Gives `launch`, which works in its worktree, as one that runs in `sandbox`; makes the task's home.

    `folder` is the run's folder. `task` None is a check of the plan itself.
    """
    home = places.task_home(plan, task)
    return confined_with(launch, sandbox, settings, places, plan.project_id, home, folder, shown)


def confined_with(
    launch: Launch,
    sandbox: Sandbox,
    settings: Settings,
    places: Places,
    project_id: str,
    home: Path,
    folder: Path,
    shown: Shown | None = None,
    *,
    read_only: bool = False,
) -> Launch:
    """Does what `confined` does for what is no task's: it has the home that is given; `read_only` is its worktree."""
    shown = shown or Shown()
    if sandbox.name is not SandboxName.NONE:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in shown.copies:
            _copy(file, home)
    objects = places.vault(project_id) / "objects"
    tools = folder / TOOLS_FOLDER
    asked_for = _unplaced(settings)
    confinement = replace(
        asked_for,
        worktree=Mount.of(Path(launch.cwd)),
        home=Mount.of(home),
        folder=folder,
        token=launch.token,
        # The worktree's own .git borrows the objects of the vault; the vault's refs stay out of sight.
        readable=(
            Mount.of(objects),
            *([Mount.of(tools)] if tools.is_dir() else ()),
            *shown.readable,
            *asked_for.readable,
        ),
        writable=(*shown.writable, *asked_for.writable),
        hidden=(places.data, Path.home()),
        read_only=read_only,
    )
    wrapped = sandbox.wrap(confinement, launch.argv or ("/bin/sh", "-c", launch.shell or ""), launch.env)
    asked_to_end = "group" if wrapped.forwards else launch.asked_to_end
    return replace(launch, argv=wrapped.argv, shell=None, env=wrapped.env, asked_to_end=asked_to_end)


def _copy(file: Path, home: Path) -> None:
    """Puts a copy of the user's file into a home that has none, or an older one. Follows no link that lies there."""
    place = home / file.name
    try:
        if place.lstat().st_mtime >= file.stat().st_mtime:
            return
    except FileNotFoundError:
        if not file.is_file():
            return
    # What an agent left in its home may be in the way: then it goes without the file.
    with suppress(OSError), tempfile.TemporaryDirectory(dir=home) as folder:
        shutil.copy2(file, draft := Path(folder) / file.name)
        draft.replace(place)


def kill_run(sandbox: Sandbox, token: str) -> None:
    """Kills all that is left of a run, here and in the container engine."""
    kill_strays(token)
    sandbox.end(token)


def network_of(settings: Settings) -> Network:
    try:
        return Network(settings.sandbox_network)
    except ValueError:
        raise UsageError(
            f"HOLDFAST_SANDBOX_NETWORK: {settings.sandbox_network!r} is not a network",
            hint=f"one of: {', '.join(Network)}",
        ) from None


def limits(settings: Settings, sandbox: Sandbox) -> str:
    """Gives the limits for people, each with how far it holds on this machine."""
    holds = sandbox.holds()
    asked_for = (
        (settings.sandbox_memory_bytes, f"{settings.sandbox_memory_bytes >> 20} MiB of memory", holds.memory),
        (settings.sandbox_max_processes, f"{settings.sandbox_max_processes} processes", holds.processes),
        (settings.sandbox_cpus, f"{settings.sandbox_cpus:g} CPUs", holds.cpus),
    )
    how = {Hold.WHOLE: "", Hold.EACH: " (each process)", Hold.NOT: " (not enforced here)"}
    return ", ".join(f"{text}{how[hold]}" for value, text, hold in asked_for if value)


def _unplaced(settings: Settings) -> Confinement:
    """Gives what the settings ask for, without the folders of a run."""
    nowhere = Path("/nonexistent")
    return Confinement(
        worktree=Mount.of(nowhere),
        home=Mount.of(nowhere),
        folder=nowhere,
        token="",
        readable=_mounts(settings.sandbox_readable),
        writable=_mounts(settings.sandbox_writable),
        network=network_of(settings),
        hosts=tuple(entry for each in settings.sandbox_hosts.split(",") if (entry := each.strip())),
        memory_bytes=settings.sandbox_memory_bytes,
        max_processes=settings.sandbox_max_processes,
        cpus=settings.sandbox_cpus,
    )


def _mounts(paths: str) -> tuple[Mount, ...]:
    return tuple(Mount.of(Path(each).expanduser()) for each in paths.split(":") if each)
