"""What a plan's events tell: taken in their order they give the state that the plan's rows have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from holdfast.domain.checkpoint import CheckpointKind
from holdfast.domain.history import Event, EventType
from holdfast.domain.step import StepState

# What is told of: its type and its id.
Subject = tuple[EventType, str]
Fields = dict[str, object]

_STEP_ENDS = frozenset({StepState.COMPLETED, StepState.FAILED, StepState.INTERRUPTED})
_MARKS = {"superseded": True, "reinstated": False}
_INITIAL = {EventType.PHASE: "pending", EventType.TASK: "pending"}


@dataclass(slots=True)
class Replay:
    """The state that the events fed so far tell of, and where they contradict each other.

    A plan has its title, status, stage and pause_reason; a phase its title and status; a task its key, title, status
    and attempt; a step its number, attempt, run, state, exit_code, failure and commit_after; a checkpoint its number,
    kind, name, commit and whether it is superseded; an approval its number, kind, status, decided_by and comment.
    """

    state: dict[Subject, Fields] = field(default_factory=dict[Subject, Fields])
    contradictions: list[str] = field(default_factory=list[str])

    def feed(self, event: Event) -> None:
        """Takes the next event of the plan in; raises `KeyError` for one that lacks what it has to tell."""
        match event.type:
            case EventType.PLAN if event.plan_id:
                self._plan(event, (EventType.PLAN, event.plan_id))
            case EventType.PHASE if event.phase_id:
                self._work(event, (EventType.PHASE, event.phase_id), ("title",))
            case EventType.TASK if event.task_id:
                self._work(event, (EventType.TASK, event.task_id), ("key", "title", "attempt"))
            case EventType.STEP if event.step_id:
                self._step(event, self._of(EventType.STEP, event.step_id))
            case EventType.CHECKPOINT:
                self._checkpoint(event)
            case EventType.APPROVAL:
                self._approval(event, self._of(EventType.APPROVAL, str(event.data["id"])))
            case _:
                pass

    def _of(self, type: EventType, id: str) -> Fields:
        return self.state.setdefault((type, id), {})

    def _plan(self, event: Event, subject: Subject) -> None:
        fields, data = self.state.setdefault(subject, {}), event.data
        if event.subtype == "created":
            fields |= {name: data[name] for name in ("title", "status", "stage")} | {"pause_reason": None}
            for phase in _each(data["phases"]):
                self.state[EventType.PHASE, str(phase["id"])] = _begun(phase, "title")
            for task in _each(data["tasks"]):
                self.state[EventType.TASK, str(task["id"])] = _begun(task, "key", "title") | {"attempt": 0}
        elif event.subtype == "stage":
            self._move(event, fields, "stage")
        elif "to" in data:
            self._move(event, fields, "status")
            fields["pause_reason"] = data.get("reason") if data["to"] == "paused" else None
            fields["stage"] = data.get("stage", fields["stage"])
        else:
            fields |= _edited(event, ("title",))

    def _work(self, event: Event, subject: Subject, names: tuple[str, ...]) -> None:
        if event.subtype == "removed":
            self.state.pop(subject, None)
            return
        if event.subtype == "added":
            self.state[subject] = {"status": _INITIAL[subject[0]]}
        fields = self.state.setdefault(subject, {})
        if "to" in event.data:
            self._move(event, fields, "status")
        given = {"attempt": 0} if event.subtype == "added" and "attempt" in names else {}
        told = {name: event.data[name] for name in names if name in event.data}
        fields |= given | told | _edited(event, names)

    def _move(self, event: Event, fields: Fields, name: str) -> None:
        before, told = fields.get(name), event.data["from"]
        if before != told:
            where = event.task_id or event.phase_id or event.plan_id
            self.contradictions.append(f"{event.type} {where} went to {before}, then from {told} to {event.data['to']}")
        fields[name] = event.data["to"]

    def _step(self, event: Event, fields: Fields) -> None:
        told = {name: event.data[name] for name in ("number", "attempt", "run") if name in event.data}
        match event.subtype:
            case "started":
                told |= {"state": StepState.RUNNING, "exit_code": None, "failure": None, "commit_after": None}
            case "imported":
                told |= event.data
            case "rolled_back":
                told["state"] = StepState.ROLLED_BACK
            case ended if ended in _STEP_ENDS:
                told |= {name: event.data[name] for name in ("exit_code", "failure", "commit_after")} | {"state": ended}
            case _:
                return
        fields |= told

    def _checkpoint(self, event: Event) -> None:
        if event.subtype == "forgotten":
            for id in cast("list[str]", event.data["ids"]):
                self.state.pop((EventType.CHECKPOINT, id), None)
            return
        if event.subtype in _MARKS:
            for id in cast("list[str]", event.data["ids"]):
                self._of(EventType.CHECKPOINT, id)["superseded"] = _MARKS[event.subtype]
            return
        if event.subtype not in list(CheckpointKind):
            return  # a branch was made of it
        fields = self._of(EventType.CHECKPOINT, str(event.data["id"]))
        fields |= {name: event.data[name] for name in ("number", "name", "commit")}
        fields |= {"kind": event.subtype, "superseded": False}

    def _approval(self, event: Event, fields: Fields) -> None:
        decided = event.data["to"] != "open"
        fields |= {"number": event.data["number"], "kind": event.data["kind"], "status": event.data["to"]}
        fields |= {"decided_by": event.actor if decided else "", "comment": event.data.get("comment", "")}


def _each(listed: object) -> list[Mapping[str, object]]:
    return cast("list[Mapping[str, object]]", listed)


def _begun(told: Mapping[str, object], *names: str) -> Fields:
    return {name: told[name] for name in names} | {"status": told["status"]}


def _edited(event: Event, names: tuple[str, ...]) -> Fields:
    after = cast("Mapping[str, object]", event.data.get("after") or {})
    return {name: after[name] for name in names if name in after}
