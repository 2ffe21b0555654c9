"""Taking one change of a plan back, whatever was changed elsewhere since: by what it was before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import cast

from holdfast.domain.planfile.spec import PhaseSpec, PlanFile, TaskSpec
from holdfast.domain.suggestions import Stale

# One thing of a plan: what kind it is, and its name ("" for the plan itself).
Name = tuple[str, str]
_HEADER = tuple(each.name for each in fields(PlanFile) if each.name not in ("phases", "text"))


def take_back(now: PlanFile, before: PlanFile, after: PlanFile) -> PlanFile:
    """Gives the plan as it is `now` without the change that made `after` of `before`.

    Raises `Stale` if something that the change touched was changed again since. Whether the parts of the result fit
    together is for the rules of plan files to say.
    """
    old, new, things = _things(before), _things(after), _things(now)
    touched = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    lists = {name: _list_back(things, old, new, name) for name in touched if name[0] in ("order", "phases")}
    things |= {name: back for name, back in lists.items() if back is not None}
    touched = [name for name in touched if lists.get(name) is None]
    moved = [name for name in touched if things.get(name) != new.get(name)]
    if moved:
        told = ", ".join(_told(name) for name in moved[:5])
        raise Stale(f"changed again since: {told}", hint="take the later change back first: holdfast plan iterations")
    for name in touched:
        if name in old:
            things[name] = old[name]
        else:
            del things[name]
    return _plan(things)


def _things(plan: PlanFile) -> dict[Name, object]:
    """Gives every thing of a plan by its name; a title that several phases have gets a number."""
    things: dict[Name, object] = {("field", name): getattr(plan, name) for name in _HEADER}
    seen: Counter[str] = Counter()
    names: list[str] = []
    for phase in plan.phases:
        seen[phase.title] += 1
        name = phase.title if seen[phase.title] == 1 else f"{phase.title} ({seen[phase.title]})"
        names.append(name)
        things["phase", name] = replace(phase, tasks=())
        things["order", name] = tuple(task.key for task in phase.tasks)
        things.update({("task", task.key): task for task in phase.tasks})
    things["phases", ""] = tuple(names)
    return things


def _plan(things: Mapping[Name, object]) -> PlanFile:
    """Puts the things together again; a task or phase that is named and not there was taken away by another change."""
    phases: list[PhaseSpec] = []
    for name in cast("tuple[str, ...]", things["phases", ""]):
        keys = cast("tuple[str, ...]", things["order", name])
        tasks = tuple(cast("TaskSpec", things["task", key]) for key in keys if ("task", key) in things)
        phases.append(replace(cast("PhaseSpec", things["phase", name]), tasks=tasks))
    header = {name: things["field", name] for name in _HEADER}
    return replace(PlanFile(title="", phases=tuple(phases)), **header)  # type: ignore[arg-type]  # its own fields


def _list_back(
    things: Mapping[Name, object], old: Mapping[Name, object], new: Mapping[Name, object], name: Name
) -> tuple[str, ...] | None:
    """Gives a list of names as it is now without what was added to it, with what was removed from it.

    None where it was put in another order as well, or where it is not in all three.
    """
    if not all(name in each for each in (things, old, new)):
        return None
    now, before, after = (cast("tuple[str, ...]", each[name]) for each in (things, old, new))
    if now == after:
        return before
    if [each for each in before if each in after] != [each for each in after if each in before]:
        return None
    left = [each for each in now if each not in after or each in before]
    for place, removed in enumerate(before):
        if removed not in after and removed not in left:
            front = next((each for each in reversed(before[:place]) if each in left), None)
            left.insert(0 if front is None else left.index(front) + 1, removed)
    return tuple(left)


def _told(name: Name) -> str:
    kind, of = name
    match kind:
        case "field":
            return f"the plan's {of}"
        case "phases":
            return "the order of the phases"
        case "order":
            return f"the tasks of the phase {of!r}"
        case _:
            return f"the {kind} {of!r}"
