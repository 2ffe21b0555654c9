"""Executes a task whose work is a command: the command and its checks run under shims, are adopted, or run again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from holdfast.agents import (
    CommandOutcome,
    Launch,
    Lost,
    Record,
    Redactor,
    environment,
    run_command,
    secret_values,
)
from holdfast.domain.plan import Plan, Project
from holdfast.domain.step import Step
from holdfast.domain.task import FailureKind, Task
from holdfast.domain.variables import fill
from holdfast.engine import confine
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.engine.work import Outcome, Work, restart_step
from holdfast.errors import StepError
from holdfast.failpoints import failpoint
from holdfast.settings import Settings
from holdfast.store import LogStream, NewLine, logs

# A run that is lost this often (its shim killed each time) is a failure of the task, not of the machine.
MAX_RESTARTS = 10


@dataclass(frozen=True, slots=True)
class Script:
    """One shell command of a step: its work (`command`) or one of its checks (`verify-1` …). 0 s = no time limit."""

    name: str
    shell: str
    timeout_seconds: float


def configuration(settings: Settings, project: Project, plan: Plan, task: Task) -> dict[str, object]:
    """Gives what a step keeps of how its task is executed, without secrets; raises `Unavailable` without a sandbox."""
    redactor = Redactor(secret_values(plan.variables, settings.secret_names))
    return {
        "executor": str(task.executor),
        "command": redactor.text(fill(task.command, plan.variables)),
        "shell": "/bin/sh",
        "timeout_seconds": _timeout(settings, task),
        "verify": [redactor.text(fill(command, plan.variables)) for command in task.verify],
        **confine.described(settings, project),
    }


async def run(runtime: Runtime, work: Work, step: Step, stop: asyncio.Event) -> Outcome:
    """Gives the outcome of the task's command and, if it succeeded, of its checks in their order.

    Where one was lost with its shim, all run again from where the step began: a check needs what the command made.
    """
    while True:
        try:
            return await run_scripts(runtime, work, step, stop)
        except Lost:
            step = await in_thread(start_over, runtime, work, step)


async def run_scripts(runtime: Runtime, work: Work, step: Step, stop: asyncio.Event) -> Outcome:
    done = await run_script(runtime, work, step, work_script(runtime.settings, work), stop)
    outcome = judge(done, FailureKind.EXIT, "the command")
    for script in check_scripts(runtime.settings, work):
        if outcome["failure"] is not None or outcome["interrupted"]:
            break
        checked = await run_script(runtime, work, step, script, stop)
        outcome = add_usage(judge(checked, FailureKind.VERIFY, f"the check `{script.shell}`"), outcome)
    return outcome


def work_script(settings: Settings, work: Work) -> Script:
    return Script("command", fill(work.task.command, work.plan.variables), _timeout(settings, work.task))


def check_scripts(settings: Settings, work: Work) -> list[Script]:
    timeout = _timeout(settings, work.task)
    commands = [fill(command, work.plan.variables) for command in work.task.verify]
    return [Script(f"verify-{number}", command, timeout) for number, command in enumerate(commands, 1)]


async def run_script(runtime: Runtime, work: Work, step: Step, script: Script, stop: asyncio.Event) -> CommandOutcome:
    """Runs one script to its end, or adopts it where it runs already; raises `Lost` if nobody saw its end."""
    name = f"{script.name}-{step.restarts}"
    folder = runtime.places.run(step.id, name)
    sandbox = confine.recorded(runtime.settings, step.agent_config)
    launch = Launch(
        shell=script.shell,
        cwd=runtime.workspaces.path(work.place),
        env=command_environment(runtime.settings, work, step),
        timeout_seconds=script.timeout_seconds,
        grace_seconds=runtime.settings.stop_grace_seconds,
        journal_max_bytes=runtime.settings.journal_max_bytes,
        secrets=runtime.settings.secret_names,
        token=step.id,
    )
    launch = await in_thread(
        confine.confined, launch, sandbox, runtime.settings, runtime.places, work.plan, work.task, folder
    )
    keeper = LogKeeper(runtime, work, step.id, name, 0, runtime.settings.log_max_bytes)
    if work.begun is not None or step.restarts:
        keeper = await in_thread(open_log, runtime, work, step.id, name)
    done = await run_command(folder, launch, after=keeper.position, on_records=keeper.keep, stop=stop)
    # Only now is nothing left of it: a container does not end with the process that asked for it.
    await in_thread(sandbox.end, step.id)
    return done


@dataclass(slots=True)
class LogKeeper:
    """Puts the records of one journal into the step's log, each once: log and journal position commit together."""

    runtime: Runtime
    work: Work
    step_id: str
    launch: str
    position: int
    room: int

    async def keep(self, records: Sequence[Record]) -> None:
        await in_thread(self._store, records)

    def _store(self, records: Sequence[Record]) -> None:
        lines = [line for record in records if (line := self._line(record)) is not None]
        if not lines:
            return  # nothing that could be stored twice, so the position need not be either
        with self.runtime.database.transaction() as connection:
            logs.append(
                connection,
                self.step_id,
                lines,
                launch=self.launch,
                after=self.position,
                last_record=records[-1].n,
                claim=self.work.claim,
            )
        self.position = records[-1].n

    def _line(self, record: Record) -> NewLine | None:
        at = datetime.fromtimestamp(record.at, UTC)
        if record.kind not in ("stdout", "stderr"):
            notice = NOTICES.get(record.kind)
            return NewLine(LogStream.SYSTEM, at, notice) if notice else None
        if self.room <= 0:
            return None
        self.room -= len(record.text)
        if self.room <= 0:
            return NewLine(
                LogStream.SYSTEM, at, "[the log's limit is reached: the rest is in the run's journal only]\n"
            )
        return NewLine(LogStream(record.kind), at, record.text)


NOTICES = {
    "truncated": "[output over the journal's limit is cut from here]\n",
    "timeout": "[the time limit is reached]\n",
    "stopping": "[stopped on request]\n",
}


def open_log(runtime: Runtime, work: Work, step_id: str, launch: str) -> LogKeeper:
    with runtime.database.read() as connection:
        position = logs.position(connection, step_id, launch)
        room = runtime.settings.log_max_bytes - logs.stored_characters(connection, step_id)
    return LogKeeper(runtime, work, step_id, launch, position, room)


def start_over(runtime: Runtime, work: Work, step: Step) -> Step:
    """Puts the worktree back to where the step began, so that its command can run again in the same step."""
    confine.kill_run(confine.recorded(runtime.settings, step.agent_config), step.id)
    failpoint("engine.restart.strays_killed")
    refuse_restart(step)
    vault = runtime.workspaces.vault(work.project)
    runtime.workspaces.forget_missing(work.place)
    with runtime.workspaces.worktree(work.place, recreate=True) as worktree:
        worktree.snapshot(full=True)
        worktree.set_tree(vault.tree_of(step.commit_before))
    failpoint("engine.restart.worktree_reset")
    with runtime.database.transaction() as connection:
        return restart_step(connection, runtime, work, step, {})


def refuse_restart(step: Step) -> None:
    """Raises `StepError` where a step's run was lost too often to be the machine's doing."""
    if step.restarts >= MAX_RESTARTS:
        raise StepError(f"the run of step {step.number} was lost {step.restarts} times", code="lost")


def command_environment(settings: Settings, work: Work, step: Step) -> dict[str, str]:
    """Gives the environment of a task's commands: the allow-list, the plan's variables, and where it stands."""
    context = {
        "project": work.project.slug,
        "plan": f"P{work.plan.number}",
        "phase": work.phase.title,
        "task": f"T{work.task.number}",
        "task_key": work.task.key,
        "step": str(step.number),
        "attempt": str(step.attempt),
        "branch": step.branch,
        "previous_error": work.task.error,
    }
    return environment(settings.command_environment.split(","), context, work.plan.variables)


def judge(done: CommandOutcome, failure: FailureKind, what: str) -> Outcome:
    """Says what a finished command means for its step."""
    interrupted = done.reason == "stopped"
    error = ""
    kind: FailureKind | None = None
    if done.reason == "timeout":
        kind, error = FailureKind.TIMEOUT, f"{what} was stopped at its time limit after {done.seconds:.0f} s"
    elif done.reason == "start_failed":
        kind, error = FailureKind.START, f"{what} could not be started: {done.message}"
    elif done.exit_code != 0 and not interrupted:
        cause = f"signal {done.signal}" if done.signal else f"exit code {done.exit_code}"
        kind, error = failure, f"{what} ended with {cause}"
    if kind is not None and done.last_output and done.reason != "start_failed":
        error = f"{error}\n{done.last_output}"
    return {
        "exit_code": done.exit_code,
        "failure": kind,
        "error": error,
        "interrupted": interrupted,
        "cpu_seconds": done.cpu_seconds,
        "peak_memory_bytes": done.peak_memory_bytes,
    }


def add_usage(outcome: Outcome, earlier: Outcome) -> Outcome:
    """Adds what the commands before it used to the outcome of the last one."""
    outcome["cpu_seconds"] += earlier["cpu_seconds"]
    outcome["peak_memory_bytes"] = max(outcome["peak_memory_bytes"], earlier["peak_memory_bytes"])
    return outcome


def _timeout(settings: Settings, task: Task) -> float:
    return task.timeout_seconds or settings.default_timeout_seconds
