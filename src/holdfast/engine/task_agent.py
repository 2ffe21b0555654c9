"""Runs an agent task: one session over ACP in the task's worktree, its conversation stored as it is told.

What becomes of an agent when its worker or it itself dies (design section 4): alive, it is adopted and notices
nothing; ended meanwhile, its journal is read to the end; dead in mid-turn, it is started again in the same step, with
its session loaded where it can be, else with the recorded conversation as its first prompt. The worktree stays as it
was left.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from holdfast.agents import Launch, Lost, acp, catalog
from holdfast.agents.acp import Opening, SessionWanted, TurnOutcome
from holdfast.domain.history import EventType
from holdfast.domain.plan import Project
from holdfast.domain.step import Step
from holdfast.domain.task import FailureKind, Task
from holdfast.engine import agent_prompt, confine, permission, plan_review, task_command
from holdfast.engine.agent_choice import agent_name, agent_of
from holdfast.engine.agent_record import Recorder, open_recorder
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.engine.work import Outcome, Work
from holdfast.errors import NotFound, Unavailable, UsageError
from holdfast.failpoints import failpoint
from holdfast.settings import Settings
from holdfast.store import Connection, approvals, events, steps

# An agent that dies in mid-turn is started again this often in one step; one that was lost with its shim or the machine
# as often as a command.
MAX_DEATHS = 3

_FAILURES: Mapping[str, FailureKind] = {
    "timeout": FailureKind.TIMEOUT,
    "start_failed": FailureKind.START,
    "not_logged_in": FailureKind.LOGIN,
    "rate_limited": FailureKind.RATE_LIMIT,
    "lost": FailureKind.LOST,
}


@dataclass(frozen=True, slots=True)
class Session:
    """What a step remembers of its agent's session: `launch` counts the processes started for it, from 0; `id` is the
    agent's own name of the session, empty before there is one; `deaths` counts those that died in mid-turn."""

    launch: int = 0
    id: str = ""
    deaths: int = 0

    @classmethod
    def of(cls, step: Step) -> Session:
        kept = step.details.get("session")
        if not isinstance(kept, Mapping):
            return cls()
        return cls(int(kept.get("launch", 0)), str(kept.get("id", "")), int(kept.get("deaths", 0)))

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return f"agent-{self.launch}"


def configuration(settings: Settings, project: Project, task: Task) -> dict[str, object]:
    """Gives what a step keeps of the agent it is run by; an agent that nobody knows is said so when it is run."""
    name = agent_name(settings, project, task)
    try:
        spec = catalog.named(settings, name)
    except (NotFound, UsageError):
        return {"agent": name}
    return {"agent": name, "command": list(spec.command), "mode": spec.mode, "model": spec.model}


async def run(runtime: Runtime, work: Work, step: Step, stop: asyncio.Event) -> Outcome:
    """Gives the outcome of the agent's session and, if it ended well, of the task's checks in their order."""
    refused = await in_thread(refusal, runtime, work)
    if refused is not None:
        return refused
    while True:
        recorder = await in_thread(open_recorder, runtime, work, step, Session.of(step).name)
        done = await hold_session(runtime, work, step, recorder, stop)
        if done.reason not in ("lost", "agent_died") or stop.is_set() or not may_go_on(step, done):
            break
        step = await in_thread(start_again, runtime, work, step, done)
    outcome = judge(done, stop)
    if work.reviews and outcome["failure"] is None and not outcome["interrupted"]:
        outcome = await in_thread(plan_review.judged, runtime, work, step, outcome)
    for script in task_command.check_scripts(runtime.settings, work):
        if outcome["failure"] is not None or outcome["interrupted"]:
            break
        checked, step = await check(runtime, work, step, script, stop)
        outcome = task_command.add_usage(checked, outcome)
    return outcome


def refusal(runtime: Runtime, work: Work) -> Outcome | None:
    """Gives the outcome of a task whose agent is not there; no attempt would change that."""
    try:
        agent_of(runtime.settings, work.project, work.task)
    except (Unavailable, UsageError) as error:
        return _failed(FailureKind.MISSING, f"{error.message} ({error.hint})" if error.hint else error.message)
    return None


async def hold_session(
    runtime: Runtime, work: Work, step: Step, recorder: Recorder, stop: asyncio.Event
) -> TurnOutcome:
    """Starts or adopts the agent's process of this launch, and talks to it until it has ended."""
    settings = runtime.settings
    session = Session.of(step)
    spec = agent_of(settings, work.project, work.task)
    sandbox = confine.recorded(settings, step.agent_config)
    folder = runtime.places.run(step.id, session.name)
    plain = Launch(
        argv=spec.command,
        cwd=runtime.workspaces.path(work.place),
        env=task_command.command_environment(settings, work, step) | spec.variables(os.environ),
        timeout_seconds=work.task.timeout_seconds or settings.default_timeout_seconds,
        grace_seconds=settings.stop_grace_seconds,
        journal_max_bytes=settings.agent_journal_max_bytes,
        token=step.id,
    )

    def confined(launch: Launch) -> Launch:
        return confine.confined(launch, sandbox, settings, runtime.places, work.plan, work.task, folder)

    async def next_prompt(opening: Opening) -> str | None:
        return await in_thread(agent_prompt.next_prompt, runtime, work, step, opening)

    wanted = await in_thread(session_wanted, runtime, work, step)
    writes = not work.task.read_only
    done = await acp.run_session(
        folder,
        await in_thread(confined, plain),
        replace(wanted, mode=spec.mode or None, model=spec.model or None, writes_files=writes, terminals=writes),
        next_prompt,
        after=recorder.position,
        on_updates=recorder.keep,
        ask=permission.Asker(runtime, work, step, session.name).ask,
        stop=stop,
        wrap=confined,
    )
    await recorder.end()
    await in_thread(sandbox.end, step.id)
    return done


def session_wanted(runtime: Runtime, work: Work, step: Step) -> SessionWanted:
    """Gives the session to hold: the one of this step that died, or of the attempt that goes on; else a new one."""
    session = Session.of(step)
    known = session.id if session.launch else ""
    if not known:
        with runtime.database.read() as connection:
            known = agent_prompt.session_before(connection, step)
    return SessionWanted("load", known) if known else SessionWanted()


def may_go_on(step: Step, done: TurnOutcome) -> bool:
    if done.reason == "lost":
        return step.restarts < task_command.MAX_RESTARTS
    return Session.of(step).deaths < MAX_DEATHS


def start_again(runtime: Runtime, work: Work, step: Step, done: TurnOutcome) -> Step:
    """Makes ready for the next process of a session whose last one died; the files stay as it left them."""
    confine.kill_run(confine.recorded(runtime.settings, step.agent_config), step.id)
    failpoint("engine.agent.strays_killed")
    before = Session.of(step)
    known = done.session_id or before.id
    after = Session(before.launch + 1, known, before.deaths + (done.reason == "agent_died"))
    with runtime.database.transaction() as connection:
        approvals.cancel_open(connection, plan_id=work.plan.id, task_id=work.task.id, actor=runtime.actor)
        told: dict[str, object] = {"step": step.number, "restart": step.restarts + 1, "reason": done.message}
        return _restarted(connection, runtime, work, step, after, told)


async def check(
    runtime: Runtime, work: Work, step: Step, script: task_command.Script, stop: asyncio.Event
) -> tuple[Outcome, Step]:
    """Runs one check of the task; one that was lost runs again on what the agent left."""
    while True:
        try:
            done = await task_command.run_script(runtime, work, step, script, stop)
            return task_command.judge(done, FailureKind.VERIFY, f"the check `{script.shell}`"), step
        except Lost:
            step = await in_thread(check_again, runtime, work, step)


def check_again(runtime: Runtime, work: Work, step: Step) -> Step:
    confine.kill_run(confine.recorded(runtime.settings, step.agent_config), step.id)
    task_command.refuse_restart(step)
    with runtime.database.transaction() as connection:
        told: dict[str, object] = {"step": step.number, "restart": step.restarts + 1}
        return _restarted(connection, runtime, work, step, Session.of(step), told)


def _restarted(
    connection: Connection, runtime: Runtime, work: Work, step: Step, session: Session, told: dict[str, object]
) -> Step:
    kept = {"launch": session.launch, "id": session.id, "deaths": session.deaths}
    details = {**step.details, "session": kept}
    events.add(
        connection,
        EventType.STEP,
        "restarted",
        runtime.actor,
        project_id=step.project_id,
        plan_id=step.plan_id,
        phase_id=work.phase.id,
        task_id=step.task_id,
        step_id=step.id,
        data=told,
    )
    return steps.set_fields(connection, step.id, claim=work.claim, restarts=step.restarts + 1, details=details)


def judge(done: TurnOutcome, stop: asyncio.Event) -> Outcome:
    """Says what the end of a session means for its step."""
    interrupted = stop.is_set() and done.reason in ("stopped", "cancelled")
    failure = None if interrupted or done.succeeded else _FAILURES.get(done.reason, FailureKind.AGENT)
    return {
        "exit_code": 0 if done.succeeded else None,
        "failure": failure,
        "error": "" if failure is None else done.message or f"the agent ended with {done.reason}",
        "interrupted": interrupted,
        "cpu_seconds": done.cpu_seconds,
        "peak_memory_bytes": done.peak_memory_bytes,
    }


def _failed(failure: FailureKind, error: str) -> Outcome:
    return {
        "exit_code": None,
        "failure": failure,
        "error": error,
        "interrupted": False,
        "cpu_seconds": 0.0,
        "peak_memory_bytes": 0,
    }
