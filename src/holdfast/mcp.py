"""The surface for agents: an MCP server on standard input and output. It parses, calls one verb of `app/`, renders.

Who calls is told by a token, in HOLDFAST_TOKEN; it is asked for with each call, so that one that was revoked, or whose
step has ended, is useless at once. A tool that a token is not for is not offered, and refused if it is called.

Any call may be made again: a question with the same key is the same gate, a task is added under one key once, and what
else is told twice does no harm. That is what lets the relay (`agents/relay.py`) repeat what was cut off.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import anyio
import anyio.to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from holdfast import __version__
from holdfast.agents import Redactor, limit_suspended, secret_values
from holdfast.app import approvals, edits, history, plans, tasks, tokens
from holdfast.app.document import Plain, plain
from holdfast.app.wire import House
from holdfast.domain.plan import Approval
from holdfast.domain.token import Token, Tool
from holdfast.domain.transitions import ApprovalStatus
from holdfast.errors import HoldfastError

VARIABLE = "HOLDFAST_TOKEN"
INSTRUCTIONS = """Holdfast runs this work as a plan of tasks and keeps every state of it. Report progress now and then.
Where only a person can decide, use ask_person instead of guessing. A checkpoint can be gone back to later."""

# Clients commonly give a tool a minute.
WAIT_SECONDS = 45.0
LOOK_SECONDS = 0.5

R = TypeVar("R")
Document = dict[str, Any]
TaskReference = Annotated[str, Field(description="Task, e.g. T3; by default your own.")]
PlanReference = Annotated[str, Field(description="Plan, e.g. P1; by default your own.")]
Texts = list[str] | None


class Tools:
    """The tools of one bearer of a token; blocking, but for `ask_person`.

    `run` is the folder of the agent's run, if it has one: its time limit stands still while it waits for a person.
    """

    def __init__(self, house: House, secret: str, run: Path | None = None) -> None:
        self._house = house
        self._secret = secret
        self._run = run
        self._redactor = Redactor(secret_values(os.environ, house.settings.secret_names) | {VARIABLE: secret})

    def plan_get(self, plan: PlanReference = "") -> Document:
        """Gives the plan: its state, phases, tasks with their keys and errors, open gates, usage."""
        with self._bearer() as token:
            view = plans.show(self._house, tokens.plan_of(self._house, token, Tool.PLAN_GET, plan))
            return _document({"plan": view.plan, "phases": view.phases, "tasks": view.tasks, "gates": view.gates})

    def task_add(
        self,
        title: str,
        instructions: Annotated[str | None, Field(description="What an agent shall do; this or `run`.")] = None,
        run: Annotated[str | None, Field(description="The shell command that does the work.")] = None,
        key: Annotated[str | None, Field(description="Its name in `depends_on`; default: of its title.")] = None,
        agent: str | None = None,
        depends_on: Annotated[Texts, Field(description="Keys of tasks to wait for.")] = None,
        verify: Annotated[Texts, Field(description="Commands that check the work.")] = None,
        phase: Annotated[str, Field(description="Title or number of its phase; default: the last.")] = "",
        position: Annotated[int | None, Field(description="Its place in the phase, 1 = the first.")] = None,
        plan: PlanReference = "",
    ) -> Document:
        """Adds a task to the plan, also while it runs."""
        with self._bearer() as token:
            plan_id = tokens.plan_of(self._house, token, Tool.TASK_ADD, plan)
            given = {"title": title, "instructions": instructions, "run": run, "key": key, "agent": agent}
            fields = self._safe(given | {"depends_on": depends_on, "verify": verify})
            return _edited(edits.add_task(self._house, plan_id, fields, phase=phase, position=position))

    def task_update(
        self,
        task: Annotated[str, Field(description="Its key or number, e.g. build or T3.")],
        title: str | None = None,
        instructions: str | None = None,
        run: str | None = None,
        agent: str | None = None,
        depends_on: Texts = None,
        verify: Texts = None,
        phase: Annotated[str, Field(description="Move it to this phase.")] = "",
        position: Annotated[int | None, Field(description="Its new place in the phase, 1 = the first.")] = None,
        action: Annotated[
            Literal["edit", "retry", "skip"], Field(description="What to do: a failed task is retried or skipped.")
        ] = "edit",
    ) -> Document:
        """Changes a task that has not started; or lets a failed one be tried again, or leaves it out."""
        with self._bearer() as token:
            task_id = tokens.task_of(self._house, token, Tool.TASK_UPDATE, task)
            match action:
                case "retry":
                    return _document({"task": tasks.retry(self._house, task_id)})
                case "skip":
                    return _document({"task": tasks.skip(self._house, task_id)})
                case "edit":
                    given = {"title": title, "instructions": instructions, "run": run, "agent": agent}
                    fields = self._safe(given | {"depends_on": depends_on, "verify": verify})
                    return _edited(edits.edit_task(self._house, task_id, fields, phase=phase, position=position))

    def checkpoint(self, message: str, task: TaskReference = "") -> Document:
        """Keeps what the worktree is now as a checkpoint, which can be compared and gone back to."""
        with self._bearer() as token:
            task_id = tokens.task_of(self._house, token, Tool.CHECKPOINT, task)
            made = tasks.checkpoint(self._house, task_id, self._redactor.text(message))
            number = tasks.show(self._house, task_id).task.number
            return {"checkpoint": f"T{number}@{made.number}", "name": made.name, "commit": made.commit}

    async def ask_person(
        self,
        question: str,
        key: Annotated[str, Field(description="Names the question: asked again with the same key it is one.")] = "",
        options: Annotated[Texts, Field(description="Answers to choose from.")] = None,
        wait_seconds: Annotated[float, Field(ge=0, le=3600, description="How long to wait here.")] = WAIT_SECONDS,
        task: TaskReference = "",
        plan: PlanReference = "",
    ) -> Document:
        """Asks a person, who may answer hours later. While the state is `waiting`, call it again in the same words."""
        gate = await anyio.to_thread.run_sync(self._ask, question, key, options or [], task, plan)
        deadline = time.monotonic() + wait_seconds
        async with nullcontext() if self._run is None else limit_suspended(self._run):
            while gate.status is ApprovalStatus.OPEN and time.monotonic() < deadline:
                await anyio.sleep(LOOK_SECONDS)
                gate = await anyio.to_thread.run_sync(self._look, gate.id)
        return _answer(gate)

    def _ask(self, question: str, key: str, options: list[str], task: str, plan: str) -> Approval:
        with self._bearer() as token:
            plan_id, task_id = tokens.subject_of(self._house, token, Tool.ASK_PERSON, task, plan)
            safe = [self._redactor.text(each) for each in options]
            return approvals.ask(
                self._house, plan_id, task_id, self._redactor.text(question), key=self._redactor.text(key), options=safe
            )

    def _look(self, gate_id: str) -> Approval:
        with self._bearer():
            return approvals.get(self._house, gate_id)

    def history(
        self,
        limit: Annotated[int, Field(ge=1, le=200)] = 50,
        cursor: Annotated[str, Field(description="The next_cursor of the page before.")] = "",
        task: TaskReference = "",
        plan: PlanReference = "",
    ) -> Document:
        """Gives what happened, newest first."""
        with self._bearer() as token:
            plan_id, task_id = tokens.subject_of(self._house, token, Tool.HISTORY, task, plan)
            page = history.timeline(self._house, plan_id=plan_id, task_id=task_id, limit=limit, cursor=cursor)
            return _document({"items": page.items, "next_cursor": page.next_cursor})

    def report_progress(
        self,
        message: str,
        percent: Annotated[int | None, Field(ge=0, le=100)] = None,
        task: TaskReference = "",
        plan: PlanReference = "",
    ) -> Document:
        """Tells the people who watch how far the work is, in a sentence; at most once a second."""
        with self._bearer() as token:
            plan_id, task_id = tokens.subject_of(self._house, token, Tool.REPORT_PROGRESS, task, plan)
            tasks.report_progress(self._house, plan_id, task_id, self._redactor.text(message), percent)
            return {"reported": True}

    def offered(self) -> list[Callable[..., Any]]:
        """Gives the tools that the token is for; raises for a token that is not good."""
        token = tokens.bearing(self._house, self._secret)
        return [getattr(self, tool) for tool in Tool if token.may(tool)]

    @contextmanager
    def _bearer(self) -> Generator[Token]:
        """Gives the token for one call, if it is good still, and turns errors into those of a tool."""
        try:
            yield tokens.bearing(self._house, self._secret)
        except HoldfastError as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise ToolError(f"[{error.code}] {error.message}{hint}") from error

    def _safe(self, fields: Document) -> Document:
        """Gives the fields that were named, without secrets."""
        return {name: self._without(value) for name, value in fields.items() if value is not None}

    def _without(self, value: str | list[str]) -> str | list[str]:
        return self._redactor.text(value) if isinstance(value, str) else [self._redactor.text(each) for each in value]


def _document(value: object) -> Document:
    shown: Plain = plain(value)
    assert isinstance(shown, dict)
    return shown


def _edited(edited: edits.Edited) -> Document:
    return _document({"plan": f"P{edited.plan.number}", "changes": edited.changes, "difference": edited.difference})


def _answer(gate: Approval) -> Document:
    """Gives the state of a question: waiting, answered, refused or closed."""
    match gate.status:
        case ApprovalStatus.OPEN:
            say = "a person has not answered yet: call ask_person again in the same words to go on waiting"
            return {"state": "waiting", "gate": f"A{gate.number}", "answer": None, "say": say}
        case ApprovalStatus.APPROVED:
            state = "answered"
        case ApprovalStatus.REJECTED:
            state = "refused"
        case ApprovalStatus.CANCELLED:
            state = "closed"
    return {"state": state, "gate": f"A{gate.number}", "answer": gate.comment, "by": gate.decided_by}


def serve(house: House, secret: str, run: Path | None = None) -> None:
    """Serves the bearer of `secret`, whose run is in the folder `run`, on standard input and output until it leaves."""
    token = tokens.bearing(house, secret)
    house.actor = tokens.actor_of(house, token)
    server = MCPServer("holdfast", version=__version__, instructions=INSTRUCTIONS, log_level="ERROR")
    for tool in Tools(house, secret, run).offered():
        server.add_tool(tool)
    server.run("stdio")
