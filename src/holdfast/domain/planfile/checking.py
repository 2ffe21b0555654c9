"""What has to be true between the parts of a plan: keys, dependencies, conditions and variables fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from holdfast.domain import conditions, variables
from holdfast.domain.dependencies import cycles
from holdfast.domain.planfile.document import Place, Problem, Scalar, place_of
from holdfast.domain.planfile.reading import ReadPlan, ReadTask
from holdfast.domain.words import did_you_mean


def check_plan(plan: ReadPlan, text: str) -> Iterator[Problem]:
    """Gives what is wrong with the plan as a whole; `text` is the file, for exact places."""
    yield from _check_keys(plan)
    yield from _check_dependencies(plan)
    yield from _check_cycles(plan)
    yield from _check_variables(plan, text)
    yield from _check_conditions(plan, text)


def _check_keys(plan: ReadPlan) -> Iterator[Problem]:
    first: dict[str, Place] = {}
    for _, task in _tasks(plan):
        key = task.spec.key
        if key and key in first:
            message = f"the key {key!r} is already that of the task in line {first[key].line}"
            yield Problem(task.at, message, "give one of them another `key:`")
        first.setdefault(key, task.at)


def _check_dependencies(plan: ReadPlan) -> Iterator[Problem]:
    phase_of: dict[str, int] = {}
    for index, task in _tasks(plan):
        phase_of.setdefault(task.spec.key, index)
    for index, task in _tasks(plan):
        for item in task.depends_on:
            key = item.value.strip()
            if key not in phase_of:
                yield Problem(item.at, f"no task has the key {key!r}", did_you_mean(key, phase_of))
            elif phase_of[key] > index:
                later = plan.phases[phase_of[key]].spec.title
                message = f"{task.spec.key!r} depends on {key!r}, which is in the later phase {later!r}"
                yield Problem(item.at, message, "move one of them, or remove the dependency")


def _check_cycles(plan: ReadPlan) -> Iterator[Problem]:
    for phase in plan.phases:
        by_key = {task.spec.key: task for task in phase.tasks}
        for cycle in cycles({key: task.spec.depends_on for key, task in by_key.items()}):
            first, follows = (*cycle, *cycle)[:2]
            at = next(item.at for item in by_key[first].depends_on if item.value.strip() == follows)
            shown = " → ".join((*cycle, first))
            yield Problem(at, f"the tasks depend on each other in a circle: {shown}", "remove one of the dependencies")


def _check_variables(plan: ReadPlan, text: str) -> Iterator[Problem]:
    texts = [*plan.texts, *(scalar for _, task in _tasks(plan) for scalar in task.texts)]
    for scalar in texts:
        seen: Counter[str] = Counter()
        for place in variables.places(scalar.value):
            nth = seen[place.written]
            seen[place.written] += 1
            if place.name not in plan.spec.variables:
                todo = did_you_mean(place.name, plan.spec.variables) or "define it under `variables:`"
                message = f"the variable {place.name!r} is not defined"
                yield Problem(_nth(text, scalar, place.written, nth), message, todo)


def _check_conditions(plan: ReadPlan, text: str) -> Iterator[Problem]:
    tasks_before: set[str] = set()
    titles_before: list[str] = []
    for phase in plan.phases:
        if phase.when is not None:
            yield from _check_condition(plan, phase.when, tasks_before, titles_before, text)
        tasks_before |= {task.spec.key for task in phase.tasks}
        titles_before.append(phase.spec.title)


def _check_condition(plan: ReadPlan, when: Scalar, tasks: set[str], titles: list[str], text: str) -> Iterator[Problem]:
    # What is looked at has to lie before: a later task or phase is always pending when the condition is asked.
    blanks = len(when.value) - len(when.value.lstrip())
    try:
        expression = conditions.parse(when.value.strip())
    except conditions.ConditionError as error:
        at = _within(text, when, blanks + error.offset)
        yield Problem(at, f"the condition is wrong: {error.message}", error.hint)
        return
    for operand in conditions.operands(expression):
        match operand:
            case conditions.Variable(name) if name not in plan.spec.variables:
                message = f"the variable {name!r} is not defined"
                todo = did_you_mean(name, plan.spec.variables) or "define it under `variables:`"
            case conditions.StatusOfTask(key) if key not in tasks:
                message = f"no task of an earlier phase has the key {key!r}"
                todo = did_you_mean(key, sorted(tasks))
            case conditions.StatusOfPhase(title) if titles.count(title) != 1:
                message = f"{'several phases have' if title in titles else 'no earlier phase has'} the title {title!r}"
                todo = "give them different titles" if title in titles else did_you_mean(title, titles)
            case _:
                continue
        yield Problem(_within(text, when, blanks + operand.offset), message, todo)


def _tasks(plan: ReadPlan) -> Iterator[tuple[int, ReadTask]]:
    return ((index, task) for index, phase in enumerate(plan.phases) for task in phase.tasks)


def _within(text: str, scalar: Scalar, offset: int) -> Place:
    """Gives the place of a character of a scalar; the scalar's own place where it is written with escapes or folds."""
    if text[scalar.span[0]] == "|":
        # A literal block keeps its lines one to one, each moved to the right by the indentation.
        before = scalar.value.count("\n", 0, offset)
        line = scalar.value.split("\n")[before]
        source_lines = text.split("\n")[scalar.at.line + before :]
        if not source_lines or line not in source_lines[0]:
            return scalar.at
        column = offset - (scalar.value.rfind("\n", 0, offset) + 1)
        return Place(scalar.at.line + 1 + before, source_lines[0].find(line) + column + 1)
    start = text.find(scalar.value, *scalar.span)
    return place_of(text, start + offset) if start >= 0 else scalar.at


def _nth(text: str, scalar: Scalar, written: str, nth: int) -> Place:
    """Gives the place of the `nth` occurrence (from 0) of what is written inside a scalar."""
    start = scalar.span[0] - 1
    for _ in range(nth + 1):
        start = text.find(written, start + 1, scalar.span[1])
        if start < 0:
            return scalar.at
    return place_of(text, start)
