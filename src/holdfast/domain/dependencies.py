"""Dependencies between tasks as a graph: order, levels, cycles, and what running in parallel can save.

A graph here is a mapping from a name (a task's id, or its key in a plan file) to the names it depends on. Names that
are not keys of the mapping lie outside (another phase) and are ignored.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from holdfast.domain.plan import Phase, PhaseMode
from holdfast.domain.task import Task

Graph = Mapping[str, Sequence[str]]


def levels(graph: Graph) -> dict[str, int]:
    """Gives each name the length of the longest chain of dependencies below it; those in or behind a cycle: none."""
    dependants, missing = _invert(graph)
    level = {name: 0 for name, count in missing.items() if count == 0}
    open_names = list(level)
    for name in open_names:
        for dependant in dependants[name]:
            missing[dependant] -= 1
            level[dependant] = max(level.get(dependant, 0), level[name] + 1)
            if missing[dependant] == 0:
                open_names.append(dependant)
    return {name: level[name] for name in open_names}


def cycles(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Gives one shortest cycle of each knot of names that depend on each other; `(a, b)`: a needs b, b needs a."""
    found: list[tuple[str, ...]] = []
    level = levels(graph)
    covered: set[str] = set()
    for name in graph:
        if name in level or name in covered:
            continue
        cycle = _shortest_cycle(graph, name)
        if cycle and not covered.intersection(cycle):
            found.append(cycle)
            covered.update(cycle)
    return tuple(found)


def run_order(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Gives `tasks` with dependencies first, ties by position; those in or behind a cycle come last, by position."""
    by_id = {task.id: task for task in tasks}
    dependants, missing = _invert({task.id: task.depends_on for task in tasks})
    heap = [(task.position, task.id) for task in tasks if missing[task.id] == 0]
    heapq.heapify(heap)
    ordered: dict[str, Task] = {}
    while heap:
        _, task_id = heapq.heappop(heap)
        ordered[task_id] = by_id[task_id]
        for dependant in dependants[task_id]:
            missing[dependant] -= 1
            if missing[dependant] == 0:
                heapq.heappush(heap, (by_id[dependant].position, dependant))
    left = sorted((task for task in tasks if task.id not in ordered), key=lambda task: task.position)
    return (*ordered.values(), *left)


def critical_path(phases: Sequence[Phase], tasks: Sequence[Task], seconds: Mapping[str, float]) -> tuple[str, ...]:
    """Gives the ids of the tasks that the plan's length consists of; `seconds` by task id, 0 where unknown.

    Of a parallel phase these are the chain of dependent tasks that takes longest, of any other one all of them.
    """
    path: list[str] = []
    for phase in sorted(phases, key=lambda each: each.position):
        own = [task for task in tasks if task.phase_id == phase.id]
        one_by_one = tuple(task.id for task in run_order(own))
        path += _longest_chain(own, seconds) if phase.mode is PhaseMode.PARALLEL else one_by_one
    return tuple(path)


def _longest_chain(tasks: Sequence[Task], seconds: Mapping[str, float]) -> tuple[str, ...]:
    ordered = run_order(tasks)
    known = levels({task.id: task.depends_on for task in tasks})
    finish: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for task in ordered:
        if task.id not in known:
            continue
        latest = max((each for each in task.depends_on if each in finish), key=lambda each: finish[each], default=None)
        before[task.id] = latest
        finish[task.id] = (finish[latest] if latest else 0.0) + seconds.get(task.id, 0.0)
    path: list[str] = []
    name = max(finish, key=lambda each: (finish[each], known[each]), default=None)
    while name is not None:
        path.append(name)
        name = before[name]
    return tuple(reversed(path))


def parallel_groups(phases: Sequence[Phase], tasks: Sequence[Task]) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Gives, phase by phase, the groups of task ids that may run side by side: one per level, or one per task."""
    groups: list[tuple[tuple[str, ...], ...]] = []
    for phase in sorted(phases, key=lambda each: each.position):
        ordered = run_order([task for task in tasks if task.phase_id == phase.id])
        if phase.mode is not PhaseMode.PARALLEL:
            groups.append(tuple((task.id,) for task in ordered))
            continue
        level = levels({task.id: task.depends_on for task in ordered})
        by_level: dict[int, list[str]] = {}
        for task in ordered:
            by_level.setdefault(level.get(task.id, -1), []).append(task.id)
        groups.append(tuple(tuple(by_level[depth]) for depth in sorted(by_level) if depth >= 0))
    return tuple(groups)


def speedup(phases: Sequence[Phase], tasks: Sequence[Task], seconds: Mapping[str, float], max_parallel: int) -> float:
    """Estimates how many times faster the plan is than its tasks one after another; 1.0 where nothing can be said."""
    one_by_one = sum(max(0.0, seconds.get(task.id, 0.0)) for task in tasks)
    length = elapsed(phases, tasks, seconds, max_parallel)
    return one_by_one / length if length > 0 else 1.0


def elapsed(phases: Sequence[Phase], tasks: Sequence[Task], seconds: Mapping[str, float], max_parallel: int) -> float:
    """Gives how long the plan lasts from its start to its end if each task takes exactly its seconds."""
    return sum(
        _phase_seconds(phase, [task for task in tasks if task.phase_id == phase.id], seconds, max_parallel)
        for phase in phases
    )


def _phase_seconds(phase: Phase, tasks: Sequence[Task], seconds: Mapping[str, float], max_parallel: int) -> float:
    """Gives the length of the schedule that `readiness.decide` would make if each task took exactly its seconds."""
    spent = {task.id: max(0.0, seconds.get(task.id, 0.0)) for task in tasks}
    if phase.mode is not PhaseMode.PARALLEL:
        return sum(spent.values())
    ordered = list(run_order(tasks))
    clock = 0.0
    ended: set[str] = set()
    running: list[tuple[float, str]] = []
    inside = set(spent)
    while ordered or running:
        ready = [task for task in ordered if all(each in ended or each not in inside for each in task.depends_on)]
        for task in ready[: max(1, max_parallel) - len(running)]:
            heapq.heappush(running, (clock + spent[task.id], task.id))
            ordered.remove(task)
        if not running:
            break  # what is left is in a cycle
        clock, task_id = heapq.heappop(running)
        ended.add(task_id)
    return clock


def _invert(graph: Graph) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Gives the dependants of each name, and how many of its dependencies inside the graph are still missing."""
    dependants: dict[str, list[str]] = {name: [] for name in graph}
    missing = dict.fromkeys(graph, 0)
    for name, dependencies in graph.items():
        for dependency in dict.fromkeys(dependencies):
            if dependency in dependants:
                dependants[dependency].append(name)
                missing[name] += 1
    return dependants, missing


def _shortest_cycle(graph: Graph, start: str) -> tuple[str, ...]:
    """Gives the shortest way from `start` back to itself along dependencies, empty if there is none."""
    before: dict[str, str] = {}
    queue = [start]
    for name in queue:
        for dependency in graph[name]:
            if dependency == start:
                path = [name]
                while path[-1] != start:
                    path.append(before[path[-1]])
                return tuple(reversed(path))
            if dependency in graph and dependency not in before:
                before[dependency] = name
                queue.append(dependency)
    return ()
