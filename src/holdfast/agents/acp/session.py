"""Holds a session with an agent: reads the journal, does what the dialogue wants next, and tells what it heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from holdfast.agents import journal
from holdfast.agents.acp import wire
from holdfast.agents.acp.answers import Answers, Ask
from holdfast.agents.acp.dialogue import Asked, Dialogue
from holdfast.agents.acp.ending import outcome
from holdfast.agents.acp.files import Files
from holdfast.agents.acp.opening import Send, next_step, turn_fault
from holdfast.agents.acp.terminals import Terminals, end_all
from holdfast.agents.acp.terms import Capabilities, Fault, Limits, Opening, SessionWanted, TurnOutcome
from holdfast.agents.bell import close_input, follow_batches, send, stop, suspend_limit, sync
from holdfast.agents.journal import Record
from holdfast.agents.launch import Launch, Lost, RunState, of_this_boot, start, state
from holdfast.clock import new_id
from holdfast.domain.conversation import PermissionWanted, TurnEnded, Update
from holdfast.errors import StepError
from holdfast.failpoints import failpoint

UPDATES_AT_ONCE = 200
CHARACTERS_AT_ONCE = 4 << 20
TELL_SECONDS = 0.2
_BREATH_SECONDS = 0.01

NextPrompt = Callable[[Opening], Awaitable[str | None]]
OnUpdates = Callable[[Sequence[Update], int], Awaitable[None]]
Wrap = Callable[[Launch, Path], Launch]


async def run(
    folder: Path,
    launch: Launch,
    wanted: SessionWanted,
    next_prompt: NextPrompt,
    *,
    after: int,
    on_updates: OnUpdates,
    ask: Ask,
    stop: asyncio.Event,
    wrap: Wrap,
    limits: Limits,
) -> TurnOutcome:
    """Does what `run_session` promises, with a run that was started before."""
    here = of_this_boot(folder)
    while True:
        dialogue = Dialogue(after, limits)
        files = Files(launch.cwd, wanted.cwd or launch.cwd, limits.file_bytes)
        terminals = Terminals(folder, launch, files, wrap, limits)
        worker = _Worker(folder, launch, wanted, dialogue, next_prompt, on_updates, stop)
        answers = Answers(wanted, files, terminals, worker.told_first(ask), stop)
        try:
            verdict = await worker.work(answers, follow_batches(folder, name=worker.name) if here else _left(folder))
        except Lost:
            # The worker that was starting it died before anything ran.
            await asyncio.to_thread(start, folder, await asyncio.to_thread(wrap, launch, folder))
            continue
        finally:
            await terminals.forget()
        await end_all(folder)
        return outcome(dialogue, verdict, here)


async def _left(folder: Path) -> AsyncIterator[list[Record]]:
    """Gives what is left of a run that ended with the machine."""
    reader = journal.Reader(folder / journal.FILE_NAME)
    while records := reader.read(UPDATES_AT_ONCE):
        yield records


class _Worker:
    """One worker's part in a session. What must last is in the run folder, so it may end at any line."""

    def __init__(
        self,
        folder: Path,
        launch: Launch,
        wanted: SessionWanted,
        dialogue: Dialogue,
        next_prompt: NextPrompt,
        on_updates: OnUpdates,
        stopping: asyncio.Event,
    ) -> None:
        self.name = new_id()
        self._folder = folder
        self._launch = launch
        self._wanted = wanted
        self._dialogue = dialogue
        self._next_prompt = next_prompt
        self._on_updates = on_updates
        self._stopping = stopping
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: set[str] = set()
        self._sending = asyncio.Lock()
        self._telling = asyncio.Lock()
        self._pending: list[Update] = []
        self._pending_characters = 0
        self._told = 0
        self._unsaid = asyncio.Event()
        self._moved = asyncio.Event()
        self._verdict: Fault | None = None
        self._leaving = False

    async def work(self, answers: Answers, batches: AsyncIterator[list[Record]]) -> Fault | None:
        """Works until the agent's process has ended; gives what this worker ended it for. Raises `Lost` if none ran."""
        try:
            async with self._group:
                for each in (self._keep_telling(), self._obey(), self._mind_the_opening()):
                    self._spawn(each)
                await self._listen(answers, batches)
                for task in self._tasks:
                    task.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return self._verdict

    def told_first(self, ask: Ask) -> Ask:
        """Gives `ask`, with all that was heard before the question handed on first.

        The time that the answer takes is not the agent's: its limit stands still until it is sent.
        """

        async def asking(wanted: PermissionWanted) -> str | None:
            await suspend_limit(self._folder, until=f"a{wanted.request}")
            failpoint("session.limit_suspended")
            await self._tell()
            return await ask(wanted)

        return asking

    # -- hearing -----------------------------------------------------------------------------------------------------

    async def _listen(self, answers: Answers, batches: AsyncIterator[list[Record]]) -> None:
        loop = asyncio.get_running_loop()
        last = 0.0
        try:
            async for records in batches:
                urgent = await self._take(records)
                self._act(answers)
                if urgent:
                    await self._tell()
                elif loop.time() - last < _BREATH_SECONDS:
                    # Under load records are taken by the handful: each wake-up costs more than a record.
                    await asyncio.sleep(_BREATH_SECONDS)
                last = loop.time()
        except Lost:
            if state(self._folder) is RunState.ABSENT:
                raise
        await self._tell(to_the_end=True)

    async def _take(self, records: list[Record]) -> bool:
        """Folds the records, and tells what makes a batch; says whether what they tell cannot wait."""
        open_before = set(self._dialogue.open)
        ended = False
        for record in records:
            updates = self._dialogue.fold([record])
            self._pending += updates
            self._pending_characters += len(str(record.fields.get("text", "")))
            if any(isinstance(update, TurnEnded) for update in updates):
                ended = True
                await sync(self._folder)
                failpoint("session.turn_ended")
            if len(self._pending) >= UPDATES_AT_ONCE or self._pending_characters >= CHARACTERS_AT_ONCE:
                await self._tell()
        self._moved.set()
        self._moved = asyncio.Event()
        self._unsaid.set()
        return ended or not open_before.issuperset(self._dialogue.open)

    async def _tell(self, *, to_the_end: bool = False) -> None:
        async with self._telling:
            updates, self._pending, self._pending_characters = self._pending, [], 0
            position = self._dialogue.position
            if updates or (to_the_end and position > self._told):
                await self._on_updates(updates, position)
                self._told = position
                failpoint("session.told")

    async def _keep_telling(self) -> None:
        """Hands on what is not urgent, some five times a second."""
        while True:
            await self._unsaid.wait()
            self._unsaid.clear()
            await self._tell()
            await asyncio.sleep(TELL_SECONDS)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._moved.wait()

    # -- acting ------------------------------------------------------------------------------------------------------

    def _present(self) -> bool:
        """Whether all that earlier workers did has been heard: only then may this one act."""
        return self._dialogue.follower == self.name and self._dialogue.end is None

    def _act(self, answers: Answers) -> None:
        if not self._present():
            return
        for asked in list(self._dialogue.open.values()):
            self._once(f"a{asked.number}", self._answer, answers, asked)
        if self._leaving or self._stopping.is_set():
            return
        number = self._dialogue.requests_sent + 1
        match turn_fault(self._dialogue) or next_step(self._dialogue, self._wanted, self._launch.cwd):
            case Fault() as fault:
                self._leave(fault)
            case Send(method, params):
                self._once(f"r{number}", self._send, f"r{number}", wire.request(number, method, params))
            case "ready":
                self._once(f"p{number}", self._prompt, number)
            case _:
                return

    async def _answer(self, answers: Answers, asked: Asked) -> None:
        result = await answers.to(asked, self._dialogue.terminals)
        failpoint("session.answer_ready")
        line = wire.answer(asked.id, result)
        if len(line) > self._dialogue.limits.line_bytes:
            line = wire.answer(asked.id, wire.RpcError(wire.INTERNAL_ERROR, "the answer is too long"))
        await self._send(f"a{asked.number}", line)

    async def _prompt(self, number: int) -> None:
        session = self._dialogue.session
        assert session is not None
        await self._tell()
        can = self._dialogue.capabilities or Capabilities()
        opening = Opening(session.id, session.carried, self._dialogue.turns, self._dialogue.last_turn, can.version)
        text = await self._next_prompt(opening)
        if text is None:
            self._leave(None)
        elif not self._stopping.is_set():
            params = {"sessionId": session.id, "prompt": [{"type": "text", "text": text}]}
            await self._send(f"r{number}", wire.request(number, "session/prompt", params))

    async def _send(self, name: str, line: str) -> None:
        async with self._sending:
            failpoint("session.sending")
            try:
                if len(line) > self._dialogue.limits.line_bytes:
                    raise StepError(f"a message of {len(line)} characters is too long for the agent")
                await send(self._folder, line, name)
            except StepError as error:
                self._leave(Fault("protocol_error", error.message))
            failpoint("session.sent")

    # -- ending ------------------------------------------------------------------------------------------------------

    async def _obey(self) -> None:
        await self._stopping.wait()
        await self._until(self._present)
        session = self._dialogue.session
        if session is not None and self._dialogue.in_turn:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._launch.grace_seconds):
                    line = wire.notification("session/cancel", {"sessionId": session.id})
                    await self._send(f"c{self._dialogue.turns}", line)
                    await self._until(lambda: not self._dialogue.in_turn)
        self._leave(Fault("stopped", "the agent was stopped"))

    async def _mind_the_opening(self) -> None:
        limits, dialogue = self._dialogue.limits, self._dialogue
        await self._until(self._present)
        for what, seconds, done in (
            ("did not answer initialize", limits.start_seconds, lambda: dialogue.capabilities is not None),
            ("opened no session", limits.session_seconds, lambda: dialogue.session is not None),
        ):
            try:
                async with asyncio.timeout(seconds):
                    await self._until(done)
            except TimeoutError:
                self._leave(Fault("start_failed", f"the agent {what} within {seconds:g} seconds"))
                return

    def _leave(self, verdict: Fault | None) -> None:
        """Ends the agent: at the end of its input where all is well, by signals otherwise."""
        if not self._leaving:
            self._leaving, self._verdict = True, verdict
            self._spawn(self._see_out(patiently=verdict is None))

    async def _see_out(self, *, patiently: bool) -> None:
        if patiently:
            await close_input(self._folder)
            await asyncio.sleep(self._dialogue.limits.leave_seconds)
        await stop(self._folder, self._launch.grace_seconds)

    # -- tasks -------------------------------------------------------------------------------------------------------

    def _once(self, name: str, act: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        if name not in self._begun:
            self._begun.add(name)
            self._spawn(act(*arguments))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
