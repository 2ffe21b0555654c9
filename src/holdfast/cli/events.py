"""One event of history as one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rich.text import Text

from holdfast.cli.render import count, safe, short, style_of, when
from holdfast.domain.history import Event, EventType

if TYPE_CHECKING:
    from holdfast.app.plans import PlanView
    from holdfast.app.wire import House

# What only tells the details of another event is shown in the timeline and with --verbose.
_MINOR = frozenset(
    {
        (EventType.PLAN, "stage"),
        (EventType.TASK, "queued"),
        (EventType.TASK, "running"),
        (EventType.CHECKPOINT, "initial"),
        (EventType.CHECKPOINT, "interval"),
        (EventType.CHECKPOINT, "stage"),
        (EventType.CHECKPOINT, "step"),
        (EventType.SYSTEM, "token_created"),
        (EventType.SYSTEM, "token_revoked"),
    }
)


def is_minor(event: Event) -> bool:
    """Tells whether a log for people can do without this event."""
    silent = event.type is EventType.CHAT and event.subtype == "messages" and not event.data.get("said")
    return silent or (event.type, event.subtype) in _MINOR


@dataclass(frozen=True, slots=True)
class Names:
    """Short names of the things that events speak of, by id."""

    by_id: Mapping[str, str]

    @classmethod
    def of(cls, *views: PlanView) -> Names:
        found: dict[str, str] = {}
        for view in views:
            found[view.plan.id] = f"P{view.plan.number} {view.plan.title}"
            found |= {phase.id: f"phase {phase.title}" for phase in view.phases}
            found |= {task.id: f"T{task.number} {task.key}" for task in view.tasks}
        return cls(found)

    def plan_of(self, event: Event) -> str:
        """Gives `P3` where the event's line would not say of which plan it tells."""
        named = self.by_id.get(event.plan_id or "")
        own = event.task_id is None and event.phase_id is None
        return "" if named is None or own else f"{named.split()[0]} "

    def subject(self, event: Event) -> str:
        for key in (event.task_id, event.phase_id, event.plan_id):
            if key is not None and key in self.by_id:
                return self.by_id[key]
        return ""


def names_for(house: House, event: Event, known: dict[str, Names]) -> Names:
    """Gives the names of the plan that the event belongs to, looked up once."""
    from holdfast.app import plans

    if event.plan_id is None:
        return Names({})
    if event.plan_id not in known:
        known[event.plan_id] = Names.of(plans.show(house, event.plan_id))
    return known[event.plan_id]


def line(event: Event, names: Names, *, actor: bool = False, plan: bool = False) -> Text:
    """Gives the event as `time  subject  what happened`."""
    shown = Text(f"{when(event.at)}  {names.plan_of(event) if plan else ''}", style="dim")
    subject = names.subject(event)
    if subject:
        shown.append(f"{safe(subject)}  ", style="")
    shown.append(safe(sentence(event)), style=style_of(event.subtype) or "default")
    if actor:
        # Which worker it was is in the JSON; to people its id is noise.
        shown.append(f"  ({safe(event.actor.partition(':')[0])})", style="dim")
    return shown


def sentence(event: Event) -> str:
    """Says what happened, in a few words."""
    data = event.data
    match event.type:
        case EventType.STEP:
            return _step(event.subtype, data)
        case EventType.CHECKPOINT:
            return _checkpoint(event, data)
        case EventType.PLAN:
            return _plan(event.subtype, data)
        case EventType.TASK:
            return _task(event.subtype, data)
        case EventType.APPROVAL:
            comment = f": {data['comment']}" if data.get("comment") else ""
            return f"gate A{data.get('number', '?')} ({data.get('kind', '?')}) {event.subtype}{comment}"
        case EventType.WORKER:
            return (
                f"worker {event.subtype}: {data.get('kind', '')} pid {data.get('pid', '?')} on {data.get('host', '')}"
            )
        case EventType.CHAT if event.subtype in ("messages", "asked", "answered"):
            return _chat(event.subtype, data)
        case EventType.PHASE:
            why = f"{_because(data, 'when')} is false" if data.get("when") else ""
            return f"{event.subtype.replace('_', ' ')}{why}{_fields(data)}"
        case EventType.FILE if event.subtype == "git":
            return "its own git has changed"
        case _:
            return f"{event.type} {event.subtype}".replace("_", " ") + _because(data, "slug", "path")


def _step(subtype: str, data: Mapping[str, object]) -> str:
    number = data.get("number", data.get("step", "?"))
    match subtype:
        case "started":
            tried = f", attempt {data['attempt']}" if data.get("attempt") not in (None, 1) else ""
            return f"step {number} started{tried}"
        case "completed":
            commit = short(str(data.get("commit_after") or ""))
            return f"step {number} completed" + (f" at {commit}" if commit else "")
        case "failed":
            code = f", exit code {data['exit_code']}" if data.get("exit_code") is not None else ""
            return f"step {number} failed ({data.get('failure') or 'exit'}{code})"
        case _:
            return f"step {number} {subtype.replace('_', ' ')}"


def _checkpoint(event: Event, data: Mapping[str, object]) -> str:
    name = f" {data['name']}" if data.get("name") else ""
    ids = data.get("ids")
    if isinstance(ids, list):
        what = "left behind" if event.subtype == "superseded" else "brought back"
        return f"{count(len(cast('list[str]', ids)), 'checkpoint')} {what}"
    return f"checkpoint @{data.get('number', '?')} {event.subtype}{name}".replace("_", " ")


def _plan(subtype: str, data: Mapping[str, object]) -> str:
    match subtype:
        case "stage":
            return f"stage: {data.get('to', '?')}".replace("_", " ")
        case "paused":
            reason = str(data.get("reason", "")).replace("_", " ")
            return f"paused ({reason})" + _because(data, "message")
        case "running":
            return str(data.get("by") or "running")
        case "pause_requested":
            return f"pause requested ({data.get('mode', '')})"
        case "progress":
            return _progress(data)
        case "cost_unknown":
            return f"{data.get('task', '')}: {data.get('message', '')}"
        case "supervised" | "replanned":
            return _supervised(subtype, data)
        case "merged":
            return f"result written to the branch {data.get('branch', '')}"
        case _:
            return subtype.replace("_", " ") + _because(data, "error") + _fields(data)


def _chat(subtype: str, data: Mapping[str, object]) -> str:
    match subtype:
        case "asked":
            return f"the supervisor is asked: {data.get('said', '')}"
        case "answered":
            return "the supervisor gave no answer" + _because(data, "error") if data.get("error") else "it has answered"
        case _:
            return str(data.get("said") or f"{data.get('count', '?')} messages")


def _supervised(subtype: str, data: Mapping[str, object]) -> str:
    if data.get("error"):
        return f"the supervisor could not help{_because(data, 'error')}"
    did = "changed the plan" if subtype == "replanned" else "made its suggestions"
    return f"the supervisor {did} (iteration {data.get('review', '?')})"


def _progress(data: Mapping[str, object]) -> str:
    percent = f"{data['percent']} % " if "percent" in data else ""
    return f"{percent}{data.get('message', '')}"


def _task(subtype: str, data: Mapping[str, object]) -> str:
    if subtype == "progress":
        return _progress(data)
    said = subtype.replace("_", " ") + _fields(data)
    if subtype == "queued" and data.get("attempt") not in (None, 1):
        said += f" for attempt {data['attempt']}"
    if subtype in ("failed", "retrying"):
        first = str(data.get("error") or data.get("failure") or "").strip().splitlines()
        said += f": {first[0]}" if first else ""
    return said


def _fields(data: Mapping[str, object]) -> str:
    """Names what an edit changed."""
    before, after = data.get("before"), data.get("after")
    if not before or not isinstance(after, Mapping):
        return ""
    return f": {', '.join(cast('Mapping[str, object]', after))}" if after else ""


def _because(data: Mapping[str, object], *names: str) -> str:
    found = [str(data[name]).strip().splitlines()[0] for name in names if data.get(name)]
    return f": {' '.join(found)}" if found else ""
