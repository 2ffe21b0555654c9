"""Works on a plan, or watches another worker do it, and shows it until it ends or waits for a person."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from holdfast.app import approvals, execution, history, plans, steps
from holdfast.app.plans import PlanView
from holdfast.app.wire import House
from holdfast.cli import board, ending
from holdfast.cli.events import Names, is_minor, line, names_for
from holdfast.cli.gates import asked, offers_always
from holdfast.cli.render import safe, say, show
from holdfast.cli.session import Session, as_json, print_line
from holdfast.domain.history import Event
from holdfast.domain.plan import Approval, PauseMode
from holdfast.domain.transitions import PLAN_EXECUTING, PlanStatus
from holdfast.errors import Unavailable

if TYPE_CHECKING:
    from rich.live import Live

    from holdfast.engine.worker import Worker

EVENTS_AT_ONCE = 500


class Leave(Exception):
    """Leaves at once, without waiting for anything; `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Signals:
    """Counts what a person or the system asked this process to do; acted upon in the loop, never in the handler."""

    interrupts: int = 0
    terminated: bool = False

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.interrupts += 1

    def terminate(self, _number: int, _frame: FrameType | None) -> None:
        self.terminated = True

    @contextmanager
    def caught(self) -> Generator[Signals]:
        """Catches SIGINT, SIGTERM and SIGHUP for the block."""
        wanted = {signal.SIGINT: self.interrupt, signal.SIGTERM: self.terminate, signal.SIGHUP: self.terminate}
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(slots=True)
class Follower:
    """Shows one plan: a live board on a terminal, a line per event elsewhere, JSON lines for programs."""

    session: Session
    house: House
    plan_id: str
    signals: Signals
    wait: bool = False
    worker: Worker | None = None
    controls: bool = True
    take_over: bool = False
    quiet: bool = False
    seen: int = 0
    tick: int = 0
    asked: int = 0
    live: Live | None = None
    told: PlanView | None = None
    put_off: set[str] = field(default_factory=set[str])

    def until_it_ends(self) -> PlanView:
        """Shows the plan until it stops or only a person can let it go on; gives its last view."""
        while True:
            with self._drawing():
                view = execution.follow(
                    self.house,
                    self.worker,
                    self.plan_id,
                    self.show,
                    stop_waiting=self._only_gates_left,
                    take_over=self.take_over,
                )
            if view.plan.status not in PLAN_EXECUTING or not self._decide(view):
                return view

    def show(self, view: PlanView) -> None:
        """Shows what is new and carries out what the signals asked for."""
        self._obey(view)
        if self.quiet:
            return
        # Every change has its event, and a view is made anew for each: what was shown to its end has none to tell.
        events: tuple[Event, ...] = ()
        if view is not self.told:
            events = history.after(self.house, self.seen, plan_id=self.plan_id, limit=EVENTS_AT_ONCE)
            self.told = view if len(events) < EVENTS_AT_ONCE else None
        if events:
            self.seen = events[-1].id
        if self.session.json:
            for event in events:
                print_line(as_json({"event": event}))
        elif self.live is None:
            names = Names.of(view)
            for event in events:
                if self.session.verbose or not is_minor(event):
                    say_line(self.session, line(event, names))
        else:
            self.draw(view)

    def draw(self, view: PlanView) -> None:
        assert self.live is not None
        self.tick += 1
        console = self.session.out
        said = steps.last_lines(self.house, view.steps)
        picture = board.picture(view, width=console.width, height=max(3, console.height - 2), tick=self.tick, said=said)
        self.live.update(picture, refresh=True)

    @contextmanager
    def _drawing(self) -> Generator[None]:
        if self.quiet or not self.session.live:
            yield
            return
        from rich.live import Live

        with Live(console=self.session.out, auto_refresh=False, transient=True, redirect_stderr=True) as live:
            self.live = live
            try:
                yield
            finally:
                self.live = None

    def _obey(self, view: PlanView) -> None:
        if self.signals.terminated:
            raise Leave(128 + signal.SIGTERM)
        if self.signals.interrupts == self.asked:
            return
        self.asked = self.signals.interrupts
        name = f"P{view.plan.number}"
        if not self.controls or self.asked > 2:
            raise Leave(execution.EXIT_INTERRUPTED)
        if view.plan.status not in PLAN_EXECUTING:
            return
        if self.asked == 1:
            plans.pause(self.house, self.plan_id, PauseMode.DRAIN)
            self._say(f"pausing {name}: what runs may finish; Ctrl-C again stops it now")
        else:
            plans.pause(self.house, self.plan_id, PauseMode.INTERRUPT)
            self._say(f"stopping what runs in {name}; Ctrl-C again leaves at once and lets it run on")

    def _say(self, text: str) -> None:
        if not self.session.json:
            # A live board must know of every line that is printed above it.
            say(self.session.err if self.live is None else self.session.out, text, style="yellow")

    def _only_gates_left(self, view: PlanView) -> bool:
        waits = view.plan.status is PlanStatus.WAITING and view.plan.stop is None and bool(view.gates)
        if not waits or not self.controls:
            return False
        if self._undecided(view) and self.session.interactive:
            return True
        return not self.wait

    def _undecided(self, view: PlanView) -> list[Approval]:
        return [gate for gate in view.gates if gate.id not in self.put_off]

    def _decide(self, view: PlanView) -> bool:
        """Asks a person about the open gates; tells whether to go on following."""
        if not self.session.interactive:
            return False
        for gate in self._undecided(view):
            answer = self._ask(gate)
            if answer == "later":
                self.put_off.add(gate.id)
            else:
                comment = click.prompt("Why", default="", show_default=False, err=True) if answer == "n" else ""
                always = answer == "always"
                approvals.decide(self.house, gate.id, approve=answer != "n", comment=comment, always=always)
        return self.wait or any(gate.id not in self.put_off for gate in view.gates)

    def _ask(self, gate: Approval) -> str:
        say(self.session.err, f"A{gate.number} waits for you: {safe(gate.title)}", style="yellow")
        for part in asked(gate):
            show(self.session.err, part)
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            choices = ["y", *(["always"] if offers_always(gate) else []), "n", "later"]
            return click.prompt("Approve?", type=click.Choice(choices), default="later", err=True)
        except (click.Abort, KeyboardInterrupt):
            return "later"
        finally:
            signal.signal(signal.SIGINT, handler)


def say_line(session: Session, text: Any) -> None:
    """Prints one line of a stream at once, whole."""
    session.out.print(text, soft_wrap=True)
    sys.stdout.flush()


def work_on(session: Session, house: House, plan_ids: list[str], *, wait: bool, since: int) -> int:
    """Makes this process a worker (or a client of the one there is) until these plans stop; gives the exit code."""
    signals = Signals()
    followers = [
        Follower(session, house, plan_id, signals, wait=wait, seen=since, take_over=True) for plan_id in plan_ids
    ]
    views: list[PlanView] = []
    with signals.caught():
        try:
            while len(views) < len(followers):
                take_part(session, house, followers, views)
        except Leave as left:
            return leave(session, left)
    for view in views:
        ending.tell(session, house, view)
    return ending.worst(views)


def take_part(session: Session, house: House, followers: list[Follower], views: list[PlanView]) -> None:
    """Follows the plans that have no last view yet, as the worker or as a client of it, until that one is gone."""
    with execution.working(house, "run") as worker:
        if worker is None:
            session.note(f"{other_worker(house)} works on this database: following it")
        try:
            for follower in followers[len(views) :]:
                follower.worker = worker
                views.append(follower.until_it_ends())
        except execution.WorkerGone:
            session.note("that worker is gone: going on here")


def settle(session: Session, house: House, plan_id: str) -> PlanView:
    """Lets a request (pause, cancel) be carried out now: waits for the live worker, or works until the plan stops."""
    signals = Signals()
    with signals.caught(), execution.working(house, "run") as worker:
        follower = Follower(session, house, plan_id, signals, wait=True, worker=worker, controls=False, quiet=True)
        try:
            return follower.until_it_ends()
        except Leave:
            return plans.show(house, plan_id)


def work_for_all(session: Session, house: House) -> int:
    """Works on every plan of this home until a signal says stop; gives the exit code."""
    signals = Signals()
    with signals.caught(), execution.working(house, "worker") as worker:
        if worker is None:
            raise Unavailable(
                f"{other_worker(house)} works on this database",
                hint="one worker at a time runs on SQLite; stop that one, or let it work: holdfast watch",
                code="worker_running",
            )
        if not session.json:
            session.note(f"worker {worker.id} (pid {os.getpid()}) is at work; Ctrl-C ends it")
        seen = history.last_event(house)
        names: dict[str, Names] = {}
        while not signals.interrupts and not signals.terminated:
            if worker.runtime.broken is not None:
                raise worker.runtime.broken
            for event in history.after(house, seen):
                seen = event.id
                _tell_event(session, house, event, names)
            worker.runtime.ended.wait(execution.LOOK_SECONDS)
    return 0


def _tell_event(session: Session, house: House, event: Event, names: dict[str, Names]) -> None:
    if session.json:
        print_line(as_json({"event": event}))
        return
    if is_minor(event) and not session.verbose:
        return
    say_line(session, line(event, names_for(house, event, names), plan=True))


def watch(session: Session, house: House, plan_id: str, *, controls: bool = False) -> int:
    """Shows a plan that another process works on; Ctrl-C stops the watching, not the plan."""
    signals = Signals()
    with signals.caught():
        try:
            follower = Follower(session, house, plan_id, signals, controls=controls)
            follower.seen = history.last_event(house)
            view = follower.until_it_ends()
        except Leave as left:
            return left.code if left.code != execution.EXIT_INTERRUPTED else execution.EXIT_RUNNING
    ending.tell(session, house, view)
    return execution.exit_code(view.plan)


def leave(session: Session, left: Leave) -> int:
    if not session.json:
        session.note("left; commands that run go on under their shims, and `holdfast resume` takes them up again")
    return left.code


def other_worker(house: House) -> str:
    """Names the live worker of this home."""
    for worker in execution.workers_now(house):
        if worker.alive and worker.pid != os.getpid():
            return f"another worker (pid {worker.pid})"
    return "another worker"
