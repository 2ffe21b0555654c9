"""What an agent is told: the task at first, or that it goes on where its session was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from holdfast.agents.acp import Opening
from holdfast.domain.conversation import Conversation, Message, MessageRole
from holdfast.domain.plan import Plan
from holdfast.domain.prompt import DependencyResult, Tried, resumed_prompt, task_prompt
from holdfast.domain.step import Step
from holdfast.domain.task import Task
from holdfast.domain.transitions import TaskStatus
from holdfast.engine.runtime import Runtime
from holdfast.engine.work import Work
from holdfast.failpoints import failpoint
from holdfast.store import Connection, conversations, messages, steps, tasks

GO_ON = (
    "You were interrupted before you had finished. The folder is as you left it. Look what is done, and go on with the "
    "task from there."
)
# What is looked through for an agent's last words, and told again to a session that lost its memory.
LAST_MESSAGES = 50
TOLD_AGAIN_MESSAGES = 400


def next_prompt(runtime: Runtime, work: Work, step: Step, opening: Opening) -> str | None:
    """Gives the prompt of the agent's one turn, None once it has had it; the step knows the session first."""
    if opening.turn > 0:
        return None
    with runtime.database.transaction() as connection:
        now = steps.lock(connection, step.id)
        session = {**_session(now), "id": opening.session_id}
        steps.set_fields(connection, step.id, claim=work.claim, details={**now.details, "session": session})
        goes_on = bool(_session(now).get("launch")) or session_before(connection, now) != ""
        told = messages.walk_back(connection, head, TOLD_AGAIN_MESSAGES) if (head := _head(connection, work)) else ()
        prompt = GO_ON if goes_on and opening.carried else first_prompt(connection, work, step)
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
    results = [result_of(connection, work.plan, tasks.get(connection, each)) for each in work.task.depends_on]
    tried = [
        Tried(each.attempt, each.error, last_words(connection, each))
        for each in steps.of_task(connection, work.task.id)
        if each.attempt < step.attempt and each.failure is not None
    ]
    return task_prompt(work.task, work.plan, work.plan.variables, results, tried)


def result_of(connection: Connection, plan: Plan, task: Task) -> DependencyResult:
    """Gives what came of a task that is done."""
    done = [each for each in steps.of_task(connection, task.id) if each.active and each.exit_code == 0]
    if task.status is not TaskStatus.COMPLETED or not done:
        return DependencyResult(task.title)
    step = done[-1]
    commit = (step.commit_after or "")[:12] if step.commit_after != step.commit_before else ""
    changed = f"{step.files_changed} files" if step.files_changed else ""
    return DependencyResult(task.title, last_words(connection, step), commit, changed)


def last_words(connection: Connection, step: Step) -> str:
    """Gives what the agent of a step said last; nothing where none spoke."""
    head = conversations.head(connection, Conversation(step.plan_id, step.task_id)).message_id
    if head is None:
        return ""
    said = (each for each in messages.walk_back(connection, head, LAST_MESSAGES) if speaks(each, step))
    return next((each.content for each in said), "")


def speaks(message: Message, step: Step) -> bool:
    spoken = message.role is MessageRole.ASSISTANT and not message.thought and not message.tool_calls
    return spoken and message.step_id == step.id
