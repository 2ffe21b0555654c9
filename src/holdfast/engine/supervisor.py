"""The supervisor of a plan: an agent, or a model, that answers what it is asked about the plan, in its conversation.

An agent is held in a session over ACP, as those of tasks are, in whatever process asks: it outlives that process, and
the next one that asks goes on with it. One process asks at a time (`held`). The agent reads a copy of the plan's
branch; it reaches the plan by Holdfast's own tools alone, with a token of the plan.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from holdfast import clock, planner
from holdfast.agents import Launch, acp, environment
from holdfast.agents.acp import Opening, SessionWanted, TurnOutcome
from holdfast.agents.catalog import AgentSpec
from holdfast.domain import permissions, prices, supervision
from holdfast.domain.conversation import (
    Heard,
    Message,
    MessageRole,
    PermissionWanted,
    Prompted,
    TokenUsage,
    TurnEnded,
    Update,
)
from holdfast.domain.permissions import Verdict
from holdfast.domain.plan import Plan, Project
from holdfast.domain.supervision import Means
from holdfast.domain.transcript import Transcript
from holdfast.engine import agent_tools, confine, inquiries
from holdfast.engine.agent_choice import installed_agent
from holdfast.engine.agent_drafter import Heard as Speech
from holdfast.engine.agent_tools import Bearer
from holdfast.engine.inquiries import Inquiry, Progress, conversation_of
from holdfast.engine.parts import Parts
from holdfast.engine.pricing import price_table
from holdfast.engine.runtime import in_thread
from holdfast.engine.task_agent import CUT_OFF, DEATHS, MAX_DEATHS
from holdfast.engine.task_command import MAX_RESTARTS
from holdfast.errors import HoldfastError, InfraError
from holdfast.failpoints import failpoint
from holdfast.sandbox import Sandbox
from holdfast.store import Blob, Connection, conversations, messages, plans, projects
from holdfast.vcs import write_files

FILES = "files"
HOME = "home"
LOCK = "lock"
LOOK_SECONDS = 0.1
OVER_BUDGET = "over_budget"
TOLD_AGAIN_MESSAGES = 400

Tell = Callable[[Inquiry, Sequence[Update]], None]


@asynccontextmanager
async def held(parts: Parts, plan_id: str, *, on_wait: Callable[[], None] = lambda: None) -> AsyncGenerator[None]:
    """Lets this process alone ask the plan's supervisor during the block; waits for another one that does.

    The lock is the system's: it is free once its process is dead, however that died.
    """
    folder = parts.places.supervisor(plan_id)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InfraError(f"the folder {folder} cannot be used: {error.strerror}", hint="check the disk") from error
    try:
        waited = False
        while not _take(descriptor):
            if not waited:
                on_wait()
            waited = True
            await asyncio.sleep(LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def is_free(parts: Parts, plan_id: str) -> bool:
    """Tells whether nobody asks the plan's supervisor just now; who asked and was cut off is dead then."""
    try:
        descriptor = os.open(parts.places.supervisor(plan_id) / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        return _take(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def answer(parts: Parts, inquiry: Inquiry, *, tell: Tell, stop: asyncio.Event) -> Inquiry:
    """Gives the inquiry with its answer, or with why there is none; one that has ended is given back as it is.

    The caller holds the supervisor (`held`). Cancelling this leaves an agent at work, for who goes on. Setting `stop`
    ends it, and the inquiry with an error.
    """
    if not inquiry.open:
        return inquiry
    work = await in_thread(_load, parts, inquiry)
    try:
        if inquiry.progress == Progress() and (limit := await in_thread(_spent_before, work)):
            return await in_thread(_close, work, (), error=limit, code=OVER_BUDGET)
        if inquiry.asked.agent:
            return await _ask_agent(work, tell, stop)
        return await _ask_model(work, stop)
    except InfraError:
        raise
    except HoldfastError as error:
        await in_thread(confine.kill_run, _sandbox(work), inquiry.id)
        said = f"{error.message} ({error.hint})" if error.hint else error.message
        return await in_thread(_close, work, (), error=said, code=error.code)


@dataclass(slots=True)
class _Work:
    """An inquiry at hand; `inquiry` is replaced as it goes on."""

    parts: Parts
    project: Project
    plan: Plan
    inquiry: Inquiry


def _load(parts: Parts, inquiry: Inquiry) -> _Work:
    with parts.database.read() as connection:
        plan = plans.get(connection, inquiry.plan_id)
        return _Work(parts, projects.get(connection, plan.project_id), plan, inquiry)


def _spent_before(work: _Work) -> str:
    with work.parts.database.read() as connection:
        return inquiries.spent(connection, plans.get(connection, work.plan.id))


def _note(work: _Work, **known: object) -> None:
    with work.parts.database.transaction() as connection:
        work.inquiry = inquiries.note(connection, work.inquiry, **known)


def _close(work: _Work, new: Sequence[Message], *, error: str = "", **known: object) -> Inquiry:
    """Ends the inquiry with the last messages of its answer; the conversation says so where there is none."""
    parts, inquiry = work.parts, work.inquiry
    last, kept = _fitting(parts, new)
    if error:
        text = f"the supervisor gave no answer: {error}"
        told = inquiries.spoken(
            work.plan.id, inquiries.message_id(inquiry.id, "error"), MessageRole.SYSTEM, text, is_error=True
        )
        last = (*last, told)
    with parts.database.transaction() as connection:
        plan = plans.lock(connection, work.plan.id)
        inquiries.append(connection, parts, plan, last, kept=kept)
        work.inquiry = inquiries.finish(connection, parts, plan, inquiry, error=error, **known)
        agent_tools.revoke(connection, _bearer(inquiry), actor=parts.actor)
    failpoint("engine.supervisor.closed")
    return work.inquiry


def _bearer(inquiry: Inquiry) -> Bearer:
    return Bearer(f"supervisor {inquiry.id}", inquiry.plan_id)


# -- an agent ----------------------------------------------------------------------------------------------------------


async def _ask_agent(work: _Work, tell: Tell, stop: asyncio.Event) -> Inquiry:
    """Holds the agent's session until it has answered; one that dies is started again, in its session where it can."""
    while True:
        spec = await in_thread(installed_agent, work.parts.settings, work.inquiry.asked.agent)
        recorder = _Recorder.of(work, spec, tell, stop)
        done = await _hold(work, spec, recorder, stop)
        again = done.reason in CUT_OFF and not stop.is_set() and _may_go_on(work.inquiry, done)
        if not again:
            break
        await in_thread(_start_again, work, done, recorder)
    last = recorder.last()
    used, told = recorder.used, recorder.transcript.told
    if done.succeeded:
        return await in_thread(_close, work, last, answer=recorder.answer, used=used, told=told)
    stopped = recorder.spent or "it was stopped"
    error = stopped if stop.is_set() else done.message or f"the agent ended with {done.reason}"
    code = OVER_BUDGET if stop.is_set() and recorder.spent else done.reason
    if done.reason == "not_logged_in":
        error += f" (log in: {spec.login})"
    return await in_thread(_close, work, last, error=error, code=code, used=used, told=told)


def _may_go_on(inquiry: Inquiry, done: TurnOutcome) -> bool:
    if done.reason in DEATHS:
        return inquiry.progress.deaths < MAX_DEATHS
    return inquiry.progress.launch < MAX_RESTARTS


def _start_again(work: _Work, done: TurnOutcome, recorder: _Recorder) -> None:
    """Makes ready for the next process of an agent whose last one died or was lost."""
    progress = work.inquiry.progress
    confine.kill_run(_sandbox(work), work.inquiry.id)
    launch, deaths = progress.launch + 1, progress.deaths + (done.reason in DEATHS)
    used, answer, told = recorder.used, recorder.answer, recorder.transcript.told
    recorder.store(recorder.last(), launch=launch, deaths=deaths, used=used, before=used, told=told, answer=answer)
    failpoint("engine.supervisor.started_again")


def _sandbox(work: _Work) -> Sandbox:
    return confine.recorded(work.parts.settings, {confine.SETTING: work.inquiry.sandbox})


def _folder(work: _Work) -> Path:
    return work.parts.places.run(work.inquiry.id, f"agent-{work.inquiry.progress.launch}")


async def _hold(work: _Work, spec: AgentSpec, recorder: _Recorder, stop: asyncio.Event) -> TurnOutcome:
    """Starts or adopts the agent's process of this launch, and talks to it until it has ended."""
    folder, files = _folder(work), str(work.parts.places.supervisor(work.plan.id) / FILES)
    sandbox = _sandbox(work)
    if not folder.exists():
        await in_thread(_lay_out, work)

    async def next_prompt(opening: Opening) -> str | None:
        return None if opening.turn else await in_thread(_prompt, work, opening)

    async def ask(wanted: PermissionWanted) -> str | None:
        return permissions.option(wanted, allow=may(wanted, files))

    wanted = _session_wanted(work.inquiry).with_agent(spec)
    async with agent_tools.offered(work.parts, _bearer(work.inquiry), folder, sandbox.name) as servers:
        launch = await in_thread(_launch, work, spec, files, folder)
        done = await acp.run_session(
            folder,
            launch,
            replace(wanted, mcp_servers=servers),
            next_prompt,
            on_updates=recorder.keep,
            ask=ask,
            stop=stop,
            limits=acp.Limits.of(work.parts.settings),
        )
    await in_thread(sandbox.end, work.inquiry.id)
    return done


def may(wanted: PermissionWanted, files: str) -> bool:
    """Tells whether the supervisor may do what it asks for: look, and use Holdfast's own tools."""
    reads = permissions.decide(permissions.READ_ONLY, wanted.call, files) is Verdict.ALLOW
    return reads or supervision.is_own_tool(wanted.call)


def _lay_out(work: _Work) -> None:
    """Writes the files of the plan's branch, as it is now, to where the supervisor reads them."""
    vault = work.parts.workspaces.vault(work.project)
    commit = vault.head(work.plan.branch)
    if commit is None:
        work.parts.workspaces.bring(work.project, work.plan.base_commit)
    folder = work.parts.places.supervisor(work.plan.id) / FILES
    shutil.rmtree(folder, ignore_errors=True)
    write_files(vault, folder, commit or work.plan.base_commit)
    failpoint("engine.supervisor.laid_out")


def _launch(work: _Work, spec: AgentSpec, files: str, folder: Path) -> Launch:
    settings, places, sandbox = work.parts.settings, work.parts.places, _sandbox(work)
    home = places.supervisor(work.plan.id) / HOME
    command, shown = confine.shown_to_agent(sandbox, places, home, spec)
    plain = Launch(
        argv=command,
        cwd=files,
        env=environment(settings.command_environment.split(","), {}, {}) | spec.variables(os.environ),
        timeout_seconds=settings.supervisor_timeout_seconds,
        grace_seconds=settings.stop_grace_seconds,
        journal_max_bytes=settings.agent_journal_max_bytes,
        secrets=settings.secret_names,
        token=work.inquiry.id,
    )
    return confine.confined_with(plain, sandbox, settings, places, work.project.id, home, folder, shown, read_only=True)


def _session_wanted(inquiry: Inquiry) -> SessionWanted:
    known = inquiry.progress.session or inquiry.earlier
    wanted = SessionWanted("load", known) if known else SessionWanted()
    return replace(wanted, writes_files=False, terminals=False)


def _prompt(work: _Work, opening: Opening) -> str:
    """Gives the prompt of the agent's turn; the inquiry knows its session first."""
    asked = work.inquiry.asked
    _note(work, opened=opening.session_id)
    with work.parts.database.read() as connection:
        plan, phases = plans.get(connection, work.plan.id), plans.phases_of(connection, work.plan.id)
        tasks = plans.tasks_of(connection, work.plan.id)
        said = said_before(connection, work.inquiry)
    wording = asked.prompt if asked.schema is None else planner.with_schema(asked.prompt, asked.schema)
    if opening.carried and opening.session_id == work.inquiry.progress.session:
        prompt = supervision.GO_ON
    elif opening.carried:
        prompt = supervision.next_prompt(plan, phases, tasks, wording)
    else:
        prompt = supervision.first_prompt(plan, phases, tasks, said, wording, Means.TOOLS)
    failpoint("engine.supervisor.prompt_made")
    return prompt


def said_before(connection: Connection, inquiry: Inquiry) -> list[Message]:
    """Gives what was said in the plan's conversation but for this question, oldest first."""
    head = conversations.head(connection, conversation_of(inquiry.plan_id)).message_id
    newest = messages.walk_back(connection, head, TOLD_AGAIN_MESSAGES) if head else ()
    return [each for each in reversed(newest) if each.id != inquiry.question_id]


@dataclass(slots=True)
class _Recorder:
    """Stores what one launch tells. It is folded from the first record on, whoever reads it: messages have ids of
    their places, so that none comes twice; the question itself is stored already. Once the plan's budget is used up,
    `spent` says so, and the agent is stopped."""

    work: _Work
    spec: AgentSpec
    tell: Tell
    stop: asyncio.Event
    transcript: Transcript
    speech: Speech = field(default_factory=Speech)
    position: int = 0
    spent: str = ""

    @classmethod
    def of(cls, work: _Work, spec: AgentSpec, tell: Tell, stop: asyncio.Event) -> _Recorder:
        progress, root = work.inquiry.progress, work.parts.places.supervisor(work.plan.id) / FILES
        launch, told = f"agent-{progress.launch}", progress.told if progress.launch else work.inquiry.told
        transcript = Transcript(conversation_of(work.plan.id), work.inquiry.id, launch, root=str(root), before=told)
        return cls(work, spec, tell, stop, transcript)

    async def keep(self, updates: Sequence[Update], position: int) -> None:
        """Takes the next updates, which end at the journal record `position`."""
        self.position = max(self.position, position)
        await self.speech.take(updates, position)
        self.tell(self.work.inquiry, updates)
        known: dict[str, object] = {}
        if any(isinstance(update, Prompted) for update in updates):
            known["session"] = self.work.inquiry.progress.opened
        folded = self.transcript.feed([each for each in updates if not isinstance(each, Prompted)], position)
        if (used := self.used) != self.work.inquiry.progress.used:
            known["used"] = used
        if folded.messages or known:
            await in_thread(self.store, folded.messages, **known)
        if self.spent and not any(isinstance(update, TurnEnded) for update in updates):
            self.stop.set()

    def last(self) -> tuple[Message, ...]:
        """Gives what is still open because the agent's process is over."""
        return self.transcript.end(Heard(self.position, clock.now())).messages

    @property
    def answer(self) -> str:
        """What the agent has said: this launch, after those that were cut off."""
        return "\n\n".join(each for each in (self.work.inquiry.progress.answer, self.speech.text) if each)

    @property
    def used(self) -> TokenUsage:
        """What this launch and those before it have used; the cost from prices where the agent tells none."""
        parts, used = self.work.parts, self.transcript.usage
        cost = prices.cost_of(price_table(parts.settings), self.spec.model, used, clock.now().date())
        return self.work.inquiry.progress.before.plus(replace(used, cost_usd=cost))

    def store(self, new: Sequence[Message], **known: object) -> None:
        """Stores messages together with what is known of the inquiry by then."""
        work, parts = self.work, self.work.parts
        fitting, kept = _fitting(parts, new)
        with parts.database.transaction() as connection:
            plan = plans.lock(connection, work.plan.id)
            inquiries.append(connection, parts, plan, fitting, kept=kept)
            if known:
                work.inquiry = inquiries.note(connection, work.inquiry, **known)
            self.spent = self.spent or inquiries.spent(connection, plan)
        failpoint("engine.supervisor.recorded")


def _fitting(parts: Parts, new: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[Blob, ...]]:
    """Gives messages as they are stored, with the blobs of their big results; an inquiry is no step."""
    mine = [replace(message, step_id=None) for message in new]
    return messages.keep_big_results(parts.places.blobs, mine, parts.settings.result_max_bytes)


# -- a model -----------------------------------------------------------------------------------------------------------


async def _ask_model(work: _Work, stop: asyncio.Event) -> Inquiry:
    """Asks the model; it is asked again where the process died before its answer was stored, as it changes nothing."""
    settings, asked = work.parts.settings, work.inquiry.asked
    drafter = planner.ModelDrafter(
        asked.author,
        base_url=settings.planner_base_url,
        timeout_seconds=settings.planner_timeout_seconds,
        max_tokens=settings.planner_max_tokens,
    )
    prompt = await in_thread(_words, work)
    asking = asyncio.ensure_future(
        planner.answer_question(drafter, prompt) if asked.schema is None else drafter(prompt, asked.schema)
    )
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((asking, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            return await in_thread(_close, work, (), error="it was stopped", code="stopped")
        got = asking.result()
    finally:
        asking.cancel()
        stopped.cancel()
    cost = prices.cost_of(price_table(settings), asked.author, got.usage, clock.now().date())
    used = replace(got.usage, cost_usd=cost)
    told = inquiries.message_id(work.inquiry.id, "answer")
    said = inquiries.spoken(work.plan.id, told, MessageRole.ASSISTANT, got.text, used=used)
    return await in_thread(_close, work, (said,), answer=got.text, used=used)


def _words(work: _Work) -> str:
    with work.parts.database.read() as connection:
        plan, phases = plans.get(connection, work.plan.id), plans.phases_of(connection, work.plan.id)
        tasks, said = plans.tasks_of(connection, work.plan.id), said_before(connection, work.inquiry)
    return supervision.first_prompt(plan, phases, tasks, said, work.inquiry.asked.prompt, Means.WORDS)
