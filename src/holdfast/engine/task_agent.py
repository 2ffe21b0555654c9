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
from dataclasses import replace
from pathlib import Path

from holdfast.agents import Launch, Lost, acp, catalog
from holdfast.agents.acp import Limits, Opening, SessionWanted, TurnOutcome
from holdfast.domain import permissions
from holdfast.domain.plan import ApprovalKind, Plan, Project
from holdfast.domain.step import Step
from holdfast.domain.task import FailureKind, Task
from holdfast.engine import agent_prompt, agent_tools, confine, control, permission, plan_review, task_command
from holdfast.engine.agent_choice import agent_name, agent_of, policy_of
from holdfast.engine.agent_record import Recorder, Session, open_recorder
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.engine.work import Outcome, Work, restart_step
from holdfast.errors import NotFound, Unavailable, UsageError
from holdfast.failpoints import failpoint
from holdfast.settings import Settings
from holdfast.store import approvals, plans, steps

# An agent that dies in mid-turn is started again this often in one step; one that was lost with its shim or the machine
# as often as a command.
MAX_DEATHS = 3

# The ways in which a session is cut off: none of them is the agent's answer, so the work goes on in the same step. An
# agent that was stopped although nobody asks for it (any more) was stopped by a worker that died over it.
CUT_OFF = ("lost", "agent_died", "stopped", "cancelled")
DEATHS = ("agent_died", "cancelled")
_FAILURES: Mapping[str, FailureKind] = {
    "timeout": FailureKind.TIMEOUT,
    "start_failed": FailureKind.START,
    "not_logged_in": FailureKind.LOGIN,
    "rate_limited": FailureKind.RATE_LIMIT,
    "lost": FailureKind.LOST,
    "stopped": FailureKind.LOST,
}


def configuration(settings: Settings, project: Project, plan: Plan, task: Task) -> dict[str, object]:
    """Gives what a step keeps of the agent it is run by; an agent that nobody knows is said so when it is run.

    Of its environment the names alone: a value may be a key. Its version is kept once it has told it.
    """
    name = agent_name(settings, project, task)
    try:
        spec = catalog.named(settings, name)
    except (NotFound, UsageError):
        return {"agent": name}
    policy = permissions.plain(policy_of(settings, project, plan, task))
    told: dict[str, object] = {"agent": name, "command": list(spec.command), "mode": spec.mode, "model": spec.model}
    return told | {"environment": sorted(spec.variables(os.environ)), "permissions": policy}


async def run(runtime: Runtime, work: Work, step: Step, stop: asyncio.Event) -> Outcome:
    """Gives the outcome of the agent's session and, if it ended well, of the task's checks in their order."""
    refused = await in_thread(refusal, runtime, work)
    if refused is not None:
        return refused
    while True:
        recorder = await in_thread(recorder_of, runtime, work, step)
        done = await hold_session(runtime, work, step, recorder, stop)
        cut_off = done.reason in CUT_OFF
        # The request is looked for in the tables too: this worker may have come after the one that obeyed it.
        stopped = cut_off and (stop.is_set() or await in_thread(stop_is_asked, runtime, work))
        if not cut_off or stopped or not may_go_on(step, done):
            break
        step = await in_thread(start_again, runtime, work, step, done)
    outcome = judge(done, stopped)
    if work.reviews and outcome["failure"] is None and not outcome["interrupted"]:
        outcome = await in_thread(plan_review.judged, runtime, work, step, outcome)
    for script in task_command.check_scripts(runtime.settings, work):
        if outcome["failure"] is not None or outcome["interrupted"]:
            break
        checked, step = await check(runtime, work, step, script, stop)
        outcome = task_command.add_usage(checked, outcome)
    return outcome


def stop_is_asked(runtime: Runtime, work: Work) -> bool:
    with runtime.database.read() as connection:
        return control.must_stop(connection, plans.get(connection, work.plan.id), work.task.id)


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
    home = runtime.places.task_home(work.plan, work.task)
    command, shown = await in_thread(confine.shown_to_agent, sandbox, runtime.places, home, spec)
    plain = Launch(
        argv=command,
        cwd=runtime.workspaces.path(work.place),
        env=task_command.command_environment(settings, work, step) | spec.variables(os.environ),
        timeout_seconds=work.task.timeout_seconds or settings.default_timeout_seconds,
        grace_seconds=settings.stop_grace_seconds,
        journal_max_bytes=settings.agent_journal_max_bytes,
        secrets=settings.secret_names,
        token=step.id,
    )

    def confined(launch: Launch, run: Path) -> Launch:
        return confine.confined(launch, sandbox, settings, runtime.places, work.plan, work.task, run, shown)

    async def next_prompt(opening: Opening) -> str | None:
        return await in_thread(agent_prompt.next_prompt, runtime, work, step, opening)

    wanted = (await in_thread(session_wanted, runtime, work, step)).with_agent(spec)
    if work.task.read_only:
        mode = spec.read_only_mode or wanted.mode
        wanted = replace(wanted, mode=mode, writes_files=False, terminals=False)
    bearer = agent_tools.Bearer.of_step(work.task, step)
    async with agent_tools.offered(runtime, bearer, folder, sandbox.name) as servers:
        done = await acp.run_session(
            folder,
            plain,
            replace(wanted, mcp_servers=servers),
            next_prompt,
            after=recorder.position,
            on_updates=recorder.keep,
            ask=permission.Asker(runtime, work, step, session.name).ask,
            stop=stop,
            wrap=confined,
            limits=Limits.of(settings),
        )
    await recorder.end()
    await in_thread(sandbox.end, step.id)
    return done


def recorder_of(runtime: Runtime, work: Work, step: Step) -> Recorder:
    with runtime.database.read() as connection:
        before = agent_prompt.held_in(connection, work, step)
    return open_recorder(runtime, work, step, before)


def session_wanted(runtime: Runtime, work: Work, step: Step) -> SessionWanted:
    """Gives the session to hold: one that knows what the conversation has, where there is one, else a new one."""
    with runtime.database.read() as connection:
        begins = agent_prompt.session_of(connection, work, step)
    return SessionWanted(begins.how, begins.session_id)


def may_go_on(step: Step, done: TurnOutcome) -> bool:
    if done.reason in DEATHS:
        return Session.of(step).deaths < MAX_DEATHS
    return step.restarts < task_command.MAX_RESTARTS


def start_again(runtime: Runtime, work: Work, step: Step, done: TurnOutcome) -> Step:
    """Makes ready for the next process of a session whose last one died; the files stay as it left them."""
    confine.kill_run(confine.recorded(runtime.settings, step.agent_config), step.id)
    failpoint("engine.agent.strays_killed")
    with runtime.database.transaction() as connection:
        # Questions stay open: the session that goes on asks them again, under the same keys.
        asked = {"plan_id": work.plan.id, "task_id": work.task.id, "kind": ApprovalKind.PERMISSION}
        approvals.cancel_open(connection, **asked, actor=runtime.actor)
        now = steps.lock(connection, step.id)
        before = Session.of(now)
        after = replace(before, launch=before.launch + 1, deaths=before.deaths + (done.reason in DEATHS))
        told = {"reason": done.message}
        step = restart_step(connection, runtime, work, now, told, details=after.within(now))
    failpoint("engine.agent.started_again")
    return step


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
        now = steps.lock(connection, step.id)
        return restart_step(connection, runtime, work, now, {"reason": "nobody saw the end of a check"})


def judge(done: TurnOutcome, interrupted: bool) -> Outcome:
    """Says what the end of a session means for its step; one that was asked to stop is `interrupted`."""
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
