"""What an agent is told: the task at first, or that it goes on where its session was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from holdfast.agents.acp import Opening
from holdfast.domain.conversation import Conversation
from holdfast.domain.prompt import DependencyResult, Tried, resumed_prompt, task_prompt
from holdfast.domain.step import Step
from holdfast.domain.task import Task
from holdfast.domain.transitions import TaskStatus
from holdfast.engine import plan_review
from holdfast.engine.agent_words import last_words
from holdfast.engine.runtime import Runtime
from holdfast.engine.work import Work
from holdfast.failpoints import failpoint
from holdfast.store import Connection, conversations, messages, plans, steps, tasks

GO_ON = (
    "You were interrupted before you had finished. The folder is as you left it. Look what is done, and go on with the "
    "task from there."
)
# What is told again to a session that lost its memory.
TOLD_AGAIN_MESSAGES = 400


def next_prompt(runtime: Runtime, work: Work, step: Step, opening: Opening) -> str | None:
    """Gives the prompt of the agent's one turn, None once it has had it; the step knows the session first.

    A reviewer has more turns where its verdict cannot be read.
    """
    if opening.turn > 0:
        return plan_review.again(runtime, step, opening.turn) if work.reviews else None
    with runtime.database.transaction() as connection:
        now = steps.lock(connection, step.id)
        session = {**_session(now), "id": opening.session_id}
        steps.set_fields(connection, step.id, claim=work.claim, details={**now.details, "session": session})
        goes_on = bool(_session(now).get("launch")) or session_before(connection, now) != ""
        told = messages.walk_back(connection, head, TOLD_AGAIN_MESSAGES) if (head := _head(connection, work)) else ()
        if goes_on and opening.carried:
            prompt = GO_ON
        elif work.reviews:
            prompt = plan_review.prompt(runtime, connection, work)
        else:
            prompt = first_prompt(connection, work, step)
    failpoint("engine.agent.prompt_made")
    if goes_on and not opening.carried and told:
        return f"{prompt}\n{resumed_prompt(told[::-1])}"
    return prompt


def _session(step: Step) -> Mapping[str, object]:
    kept = step.details.get("session")
    return cast("Mapping[str, object]", kept) if isinstance(kept, Mapping) else {}


def _head(connection: Connection, work: Work) -> str | None:
    return conversations.head(connection, Conversation(work.plan.id, work.task.id)).message_id


def session_before(connection: Connection, step: Step) -> str:
    """Gives the agent's session of the step that this one goes on from: same attempt, stopped before its end."""
    before = [each for each in steps.of_task(connection, step.task_id) if each.number < step.number]
    if not before or before[-1].attempt != step.attempt:
        return ""
    return str(_session(before[-1]).get("id", ""))


def first_prompt(connection: Connection, work: Work, step: Step) -> str:
    """Gives what the task's agent is told: the task, what was done before it, and what was tried."""
    task, plan = work.task, work.plan
    if task.contestant_of is not None:
        # In a race it is told what the task that it stands for would be told.
        task = tasks.get(connection, task.contestant_of)
        plan = plans.get(connection, task.plan_id)
    results = [result_of(connection, tasks.get(connection, each)) for each in task.depends_on]
    tried = [
        Tried(each.attempt, each.error, last_words(connection, each))
        for each in steps.of_task(connection, work.task.id)
        if each.attempt < step.attempt and each.failure is not None
    ]
    return task_prompt(work.task, plan, plan.variables, results, tried)


def result_of(connection: Connection, task: Task) -> DependencyResult:
    """Gives what came of a task that is done."""
    done = [each for each in steps.of_task(connection, task.id) if each.active and each.exit_code == 0]
    if task.status is not TaskStatus.COMPLETED or not done:
        return DependencyResult(task.title)
    step = done[-1]
    commit = (step.commit_after or "")[:12] if step.commit_after != step.commit_before else ""
    changed = f"{step.files_changed} files" if step.files_changed else ""
    return DependencyResult(task.title, last_words(connection, step), commit, changed)
