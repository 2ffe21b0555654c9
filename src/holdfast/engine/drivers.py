"""Drivers that wait in this process for the tasks that run beside them, and are woken without the database.

A driver with tasks at hand in its own worker waits here; with none at hand it waits durably, in its workflow. So a task
that ends has a driver to ring exactly if it was waiting here when the task asked: it cannot leave before the task does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Bell:
    """Rings one waiting driver; `heard` is the plan's count of wakes when the driver last looked."""

    loop: asyncio.AbstractEventLoop
    sound: asyncio.Event = field(default_factory=asyncio.Event)
    rung: bool = False
    heard: int = 0


class Drivers:
    """The drivers that wait here, by the ids of their plans, and the tasks at hand for each. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: dict[str, Bell] = {}
        self._at_hand: dict[str, set[str]] = {}
        self._listeners: dict[str, list[Bell]] = {}

    def enter(self, plan_id: str) -> Bell:
        """Gives the bell of a driver that begins to work in the running event loop."""
        with self._lock:
            bell = self._bells[plan_id] = Bell(asyncio.get_running_loop())
            return bell

    def look(self, plan_id: str, wakes: int) -> None:
        """Notes what the driver sees from now on: what rings later has not been seen."""
        with self._lock:
            if bell := self._bells.get(plan_id):
                bell.heard = wakes

    def quiet(self, bell: Bell) -> None:
        """Is called by the driver before it looks."""
        with self._lock:
            bell.rung = False
            bell.sound.clear()

    def leave(self, plan_id: str) -> bool:
        """Lets a driver go that has nothing at hand and was not rung; False = it has to look or to wait here."""
        with self._lock:
            bell = self._bells.get(plan_id)
            if bell is not None and (bell.rung or self._at_hand.get(plan_id)):
                return False
            self._bells.pop(plan_id, None)
            return True

    def gone(self, plan_id: str, bell: Bell) -> None:
        """Takes away the bell of a driver that ended, however it did."""
        with self._lock:
            if self._bells.get(plan_id) is bell:
                del self._bells[plan_id]

    def expect(self, plan_id: str, task_id: str) -> None:
        """Says that a task of the plan is about to run here."""
        with self._lock:
            self._at_hand.setdefault(plan_id, set()).add(task_id)

    @contextmanager
    def task(self, plan_id: str, task_id: str) -> Generator[None]:
        """Holds a task at hand; its driver is rung at the end of the block."""
        self.expect(plan_id, task_id)
        try:
            yield
        finally:
            with self._lock:
                at_hand = self._at_hand.get(plan_id, set())
                at_hand.discard(task_id)
                if not at_hand:
                    self._at_hand.pop(plan_id, None)
                self._ring(self._bells.get(plan_id))

    def waiting(self) -> list[str]:
        """Gives the ids of the plans whose drivers wait here."""
        with self._lock:
            return list(self._bells)

    def waits(self, plan_id: str) -> bool:
        """Tells a task at hand whether the driver will be rung when the task ends, and needs no other waking."""
        with self._lock:
            return plan_id in self._bells

    def wake(self, plan_id: str, wakes: int) -> None:
        """Rings the driver if somebody woke it, by the plan's count of wakes, since it looked."""
        with self._lock:
            bell = self._bells.get(plan_id)
            if bell is not None and wakes > bell.heard:
                self._ring(bell)
            for listener in self._listeners.get(plan_id, ()):
                if wakes > listener.heard:
                    listener.heard = wakes
                    listener.loop.call_soon_threadsafe(listener.sound.set)

    @contextmanager
    def news(self, plan_id: str) -> Generator[asyncio.Event]:
        """Gives an event that is set whenever somebody has woken the plan's driver, and once at the beginning."""
        listener = Bell(asyncio.get_running_loop(), heard=-1)
        with self._lock:
            self._listeners.setdefault(plan_id, []).append(listener)
        try:
            yield listener.sound
        finally:
            with self._lock:
                self._listeners[plan_id].remove(listener)
                if not self._listeners[plan_id]:
                    del self._listeners[plan_id]

    def _ring(self, bell: Bell | None) -> None:
        if bell is not None and not bell.rung:
            bell.rung = True
            bell.loop.call_soon_threadsafe(bell.sound.set)
