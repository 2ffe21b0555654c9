"""Looks at what a run left: in its database, its vault, its repository and outside; and says what is wrong with it.

`violations` are rules that hold for every run, `differences` compare a killed run with an undisturbed one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tests.harness.processes import await_quiet, tell
from tests.harness.sample import LINES, USED_COST, USED_TOKENS, Scene, git

from holdfast.app import database, plans
from holdfast.app.plans import PlanView
from holdfast.app.wire import House, open_house
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind, StageName
from holdfast.domain.conversation import Conversation, Message, MessageRole
from holdfast.domain.history import Event, EventType
from holdfast.domain.step import Step
from holdfast.domain.task import Executor, Task
from holdfast.domain.transitions import PlanStatus, TaskStatus
from holdfast.settings import Settings
from holdfast.store import checkpoints, events, logs, messages

_STAGES = tuple(str(name) for name in StageName)
_STEP = re.compile(r"(step=|Holdfast-Step: )\d+")
# A stage checkpoint belongs to the plan; the keys of tasks are never empty.
_PLAN = ""
# How many there are depends on time and on where the kills came: a worktree whose restoring was cut off half-way cannot
# be told from one that somebody edited, so it is kept in a `pre_rewind` checkpoint before it is restored again.
_UNCOUNTED = (CheckpointKind.INTERVAL, CheckpointKind.PRE_REWIND)


@dataclass(frozen=True, slots=True)
class Observed:
    """What must be the same however often the run was killed; numbers that depend on who was first are taken out."""

    plan: tuple[str, ...]
    tasks: Mapping[str, tuple[str, int, str]]
    steps: Mapping[str, tuple[tuple[object, ...], ...]]
    checkpoints: Mapping[str, tuple[str, ...]]
    first_parents: tuple[str, ...]
    commits: tuple[str, ...]
    files: Mapping[str, str]
    happened: Mapping[tuple[str, str, str], int]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was read of one run."""

    view: PlanView
    checkpoints: tuple[Checkpoint, ...]
    events: tuple[Event, ...]
    logs: Mapping[str, str]
    talks: Mapping[str, tuple[Message, ...]]
    refs: Mapping[str, str]
    found: tuple[str, ...]
    files: Mapping[str, str]
    log: tuple[str, ...]
    first_parents: tuple[str, ...]

    def key(self, task_id: str | None) -> str:
        return next((task.key for task in self.view.tasks if task.id == task_id), _PLAN)

    def steps_of(self, task: Task) -> tuple[Step, ...]:
        return tuple(step for step in self.view.steps if step.task_id == task.id)


def opened(scene: Scene):
    """Opens the run's database in this process, as a client."""
    chosen = Settings(data=scene.data, db=scene.database_url)
    return open_house(chosen, actor="crash-test")


def gather(scene: Scene) -> Evidence:
    """Reads everything of a run on which nothing works any more."""
    with opened(scene) as house:
        view = plans.show(house, plans.find(house, ""))
        vault = house.places.vault(view.project.id)
        head = view.plan.branch
        return Evidence(
            view=view,
            checkpoints=_pages(house, checkpoints.list_, plan_id=view.plan.id),
            events=_events(house),
            logs={step.id: _log(house, step.id) for step in view.steps},
            talks={task.key: _talk(house, task) for task in view.tasks if task.executor is Executor.AGENT},
            refs=_refs(vault),
            found=tuple(f"{each.rule} {each.subject}: {each.message}" for each in database.examine(house)),
            files=files_of(vault, head),
            log=_commits(vault, "--topo-order", f"{view.plan.base_commit}..{head}"),
            first_parents=_commits(vault, "--first-parent", f"{view.plan.base_commit}..{head}"),
        )


def observed(evidence: Evidence) -> Observed:
    """Takes out of the evidence what two runs of the same plan have in common."""
    view = evidence.view
    plan = view.plan
    return Observed(
        plan=(str(plan.status), str(plan.stage), str(plan.pause_reason), plan.error),
        tasks={task.key: (str(task.status), task.attempt, str(task.failure)) for task in view.tasks},
        steps={
            task.key: tuple(
                (step.attempt, step.exit_code, step.interrupted, step.active, str(step.failure))
                for step in evidence.steps_of(task)
            )
            for task in view.tasks
        },
        checkpoints={
            owner: tuple(
                f"{each.kind} {each.name}".strip()
                for each in sorted(evidence.checkpoints, key=lambda each: each.number)
                if evidence.key(each.task_id) == owner and each.kind not in _UNCOUNTED
            )
            for owner in (_PLAN, *(task.key for task in view.tasks))
        },
        first_parents=tuple(_STEP.sub(r"\1N", line) for line in evidence.first_parents),
        commits=tuple(sorted(_STEP.sub(r"\1N", line) for line in evidence.log)),
        files={name: _STEP.sub(r"\1N", text) for name, text in evidence.files.items()},
        happened=_happened(evidence),
    )


def _happened(evidence: Evidence) -> Mapping[tuple[str, str, str], int]:
    """Counts the events by what they tell; how often a worker began is what the kills decide."""
    left_out = {(EventType.STEP, "restarted"), *((EventType.CHECKPOINT, str(kind)) for kind in _UNCOUNTED)}
    counted = [each for each in evidence.events if (each.type, each.subtype) not in left_out]
    # Messages are told of by the handful, as many as there are at the time.
    counted = [each for each in counted if each.type not in (EventType.WORKER, EventType.SYSTEM, EventType.CHAT)]
    return Counter((str(each.type), each.subtype, evidence.key(each.task_id)) for each in counted)


def differences(reference: Observed, seen: Observed) -> list[str]:
    """Gives what of a run is not as in the undisturbed one, a line each."""
    found: list[str] = []
    for each in fields(Observed):
        wanted, given = getattr(reference, each.name), getattr(seen, each.name)
        if wanted == given:
            continue
        if isinstance(wanted, Mapping):
            found += [
                f"{each.name}[{key!r}] is {given.get(key)!r}, undisturbed it is {wanted.get(key)!r}"
                for key in sorted({*wanted, *given})
                if wanted.get(key) != given.get(key)
            ]
        else:
            found.append(f"{each.name} is {given!r}, undisturbed it is {wanted!r}")
    return found


def violations(scene: Scene, evidence: Evidence, *, once: bool) -> list[str]:
    """Gives every broken promise of a run. `once`: commands outlived all kills, so effects outside came once, too."""
    rules = (
        _sound,
        _numbers,
        _step_checkpoints,
        _refs_are_rows,
        _stages,
        _commits_of_steps,
        _marks,
        _terminal,
        _logs,
        _talks,
    )
    found = [line for rule in rules for line in rule(evidence)]
    found += _outside(scene, evidence, once=once)
    found += _left_behind(scene)
    return found


# -- rules -----------------------------------------------------------------------------------------------------------


def _sound(evidence: Evidence) -> Iterator[str]:
    for line in evidence.found:
        yield f"db check: {line}"


def _numbers(evidence: Evidence) -> Iterator[str]:
    numbers = sorted(step.number for step in evidence.view.steps)
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"step numbers are {numbers}"
    for owner in {each.task_id for each in evidence.checkpoints}:
        numbers = sorted(each.number for each in evidence.checkpoints if each.task_id == owner)
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"checkpoint numbers of {evidence.key(owner) or 'the plan'} are {numbers}"
    for step in evidence.view.steps:
        if step.ended_at is None:
            yield f"step {step.number} has no end"


def _step_checkpoints(evidence: Evidence) -> Iterator[str]:
    of_steps = Counter(each.step_id for each in evidence.checkpoints if each.kind is CheckpointKind.STEP)
    for step in evidence.view.steps:
        if of_steps[step.id] != 1:
            yield f"step {step.number} has {of_steps[step.id]} step checkpoints"
    for task in evidence.view.tasks:
        last = max((each.number for each in evidence.checkpoints if each.task_id == task.id), default=0)
        if task.head_checkpoint != last:
            yield f"the head of {task.key} is checkpoint {task.head_checkpoint}, its last is {last}"


def _refs_are_rows(evidence: Evidence) -> Iterator[str]:
    """No row without its ref. A ref without a row only where the next checkpoint of that owner will replace it.

    In a completed plan every owner has made a later checkpoint (a task its step's, the plan its last stage's), which
    takes the orphan's number and so its name: there must be none.
    """
    rows = {each.ref: each for each in evidence.checkpoints}
    for ref, each in rows.items():
        if evidence.refs.get(ref) != each.commit:
            yield f"{ref} is {evidence.refs.get(ref)}, its row says {each.commit}"
    for ref in evidence.refs.keys() - rows.keys():
        owner, _, number = ref.removeprefix("refs/holdfast/checkpoints/").partition("/")
        last = max((each.number for each in rows.values() if (each.task_id or each.plan_id) == owner), default=0)
        if evidence.view.plan.status is PlanStatus.COMPLETED or int(number) != last + 1:
            yield f"{ref} has no row"


def _stages(evidence: Evidence) -> Iterator[str]:
    names = tuple(
        each.name
        for each in sorted(evidence.checkpoints, key=lambda each: each.number)
        if each.kind is CheckpointKind.STAGE
    )
    if evidence.view.plan.status is PlanStatus.COMPLETED and names != _STAGES:
        yield f"the stage checkpoints are {names}"


def _commits_of_steps(evidence: Evidence) -> Iterator[str]:
    """One commit for each step that changed something, none for another; a merge repeats the trailers of its step."""
    made = Counter(
        int(match[1])
        for line in evidence.log
        if not line.startswith("Merge ") and (match := re.search(r"Holdfast-Step: (\d+)", line))
    )
    done = {task.id for task in evidence.view.tasks if task.status is TaskStatus.COMPLETED}
    for step in evidence.view.steps:
        changed = step.task_id in done and step.failure is None and step.commit_after != step.commit_before
        if made[step.number] != int(changed):
            yield f"step {step.number} has {made[step.number]} commits on the plan's branch, {int(changed)} expected"
    for number in made.keys() - {step.number for step in evidence.view.steps}:
        yield f"there is a commit of step {number}, which does not exist"


def _marks(evidence: Evidence) -> Iterator[str]:
    """The mark that a task's command left says the step and the attempt that the database says, once."""
    for task in evidence.view.tasks:
        text = evidence.files.get(f"marks/{task.key}.txt")
        succeeded = [step for step in evidence.steps_of(task) if step.exit_code == 0 and step.failure is None]
        if text is None or not succeeded:
            continue
        step = succeeded[-1]
        wanted = f"{task.key} attempt={step.attempt} step={step.number}\n"
        if text != wanted:
            yield f"marks/{task.key}.txt holds {text!r}, not {wanted!r}"


def _terminal(evidence: Evidence) -> Iterator[str]:
    """Each end is told once: of the plan, of a phase, of a task, of a step; each checkpoint is told once."""
    told = Counter(
        (str(each.type), each.subtype, each.plan_id, each.phase_id, each.task_id, str(each.data.get("to")))
        for each in evidence.events
        if each.data.get("to") in ("completed", "skipped", "cancelled")
    )
    for what, times in told.items():
        if times > 1:
            yield f"told {times} times: {what}"
    of_steps = [each for each in evidence.events if each.type is EventType.STEP]
    started = Counter(each.step_id for each in of_steps if each.subtype == "started")
    for step in evidence.view.steps:
        if started[step.id] != 1:
            yield f"the start of step {step.number} is told {started[step.id]} times"
        ends = [e for e in of_steps if e.step_id == step.id and e.subtype not in ("started", "restarted")]
        if step.ended_at is not None and len(ends) != 1:
            yield f"the end of step {step.number} is told as {[e.subtype for e in ends]}"
    noted = sum(each.type is EventType.CHECKPOINT for each in evidence.events)
    if noted != len(evidence.checkpoints):
        yield f"{noted} events tell of {len(evidence.checkpoints)} checkpoints"


def _logs(evidence: Evidence) -> Iterator[str]:
    """A step's log has each numbered line once; after a restart the lines of the last start, all of them."""
    for step in evidence.view.steps:
        if step.interrupted or step.exit_code is None or evidence.key(step.task_id) in evidence.talks:
            continue
        key = evidence.key(step.task_id)
        numbers = [int(n) for n in re.findall(rf"^line (\d+) of {key}$", evidence.logs[step.id], re.MULTILINE)]
        starts: list[list[int]] = []
        for number in numbers:
            if number == 1:
                starts.append([])
            if not starts:
                yield f"the log of step {step.number} ({key}) starts with line {number}"
                break
            starts[-1].append(number)
        if not starts or starts[-1] != list(range(1, LINES + 1)):
            yield f"the log of step {step.number} ({key}) has the lines {numbers}"
        if any(each != list(range(1, len(each) + 1)) for each in starts) or len(starts) > step.restarts + 1:
            yield f"the log of step {step.number} ({key}), restarted {step.restarts} times, has the lines {numbers}"


def _talks(evidence: Evidence) -> Iterator[str]:
    """A conversation has after each prompt what was said, once; after the last one, all of it."""
    for task in evidence.view.tasks:
        talk = evidence.talks.get(task.key, ())
        for step in evidence.steps_of(task) if talk else ():
            said = [each for each in talk if each.step_id == step.id]
            yield from _talk_of(task.key, step, said)
        if [each.position for each in talk] != list(range(len(talk))):
            yield f"the conversation of {task.key} has the positions {[each.position for each in talk]}"
        if task.key in evidence.talks and task.status is TaskStatus.COMPLETED and not talk:
            yield f"{task.key} has no conversation"


def _talk_of(key: str, step: Step, said: list[Message]) -> Iterator[str]:
    turns: list[list[int]] = []
    for message in said:
        if message.role is MessageRole.USER:
            turns.append([])
        elif turns:
            turns[-1] += [
                int(number) for number in re.findall(rf"^line (\d+) of {key}$", message.content, re.MULTILINE)
            ]
        else:
            yield f"step {step.number} ({key}): {message.content[:50]!r} was said before any prompt"
            return
    whole = list(range(1, LINES + 1))
    if not step.interrupted and (not turns or turns[-1] != whole):
        yield f"the conversation of step {step.number} ({key}) ends with the lines {turns[-1:]}"
    if any(turn != whole[: len(turn)] for turn in turns) or len(turns) > step.restarts + 1:
        yield f"the conversation of step {step.number} ({key}), restarted {step.restarts} times, has the lines {turns}"
    if step.restarts == 0 and not step.interrupted and (step.tokens, step.cost_usd) != (USED_TOKENS, USED_COST):
        yield f"step {step.number} ({key}) used {step.tokens} tokens and {step.cost_usd} USD"
    calls = [call for message in said for call in message.tool_calls]
    if step.restarts == 0 and not step.interrupted and len(calls) != 6:
        yield f"step {step.number} ({key}) has the calls {[call.get('name') for call in calls]}"


def _outside(scene: Scene, evidence: Evidence, *, once: bool) -> Iterator[str]:
    """What commands did outside the worktree came at least once for each step, exactly once if none was killed."""
    said = Counter(scene.outside.read_text().splitlines() if scene.outside.exists() else ())
    wanted: set[str] = set()
    for step in evidence.view.steps:
        if step.interrupted:
            continue
        for moment in ("begin", "end"):
            line = f"{moment} {evidence.key(step.task_id)} {step.attempt} {step.number}"
            wanted.add(line)
            if said[line] < 1 or (once and said[line] != 1):
                yield f"outside, {line!r} came {said[line]} times"
            if step.restarts == 0 and said[line] > 1:
                yield f"outside, {line!r} came {said[line]} times, but step {step.number} was never restarted"
    interrupted = {step.number for step in evidence.view.steps if step.interrupted}
    for line in said.keys() - wanted:
        if int(line.split()[-1]) not in interrupted:
            yield f"outside, {line!r} belongs to no step"


def _left_behind(scene: Scene) -> Iterator[str]:
    for pid in await_quiet(scene.root, scene.token, seconds=120.0):
        yield f"a process is left: {tell(pid)}"
    for lock in scene.data.glob("projects/*/vault.git/**/*.lock"):
        if lock.parent.name != "holdfast":  # those are flocked files, not locks by existence
            yield f"a lock is left: {lock.relative_to(scene.root)}"
    refs = git(scene.repository, "for-each-ref", "--format=%(refname)")
    state = git(scene.repository, "status", "--porcelain") + refs
    if state != "refs/heads/main\n":
        yield f"the user's repository was touched: {state!r}"


# -- reading ---------------------------------------------------------------------------------------------------------


def _pages(house: House, query: Any, **keywords: Any) -> tuple[Any, ...]:
    found: list[Any] = []
    cursor: str | None = None
    with house.database.read() as connection:
        while True:
            page = query(connection, limit=500, cursor=cursor, **keywords)
            found += page.items
            cursor = page.next_cursor
            if not cursor:
                return tuple(found)


def _events(house: House) -> tuple[Event, ...]:
    return tuple(reversed(_pages(house, events.list_)))


def _talk(house: House, task: Task) -> tuple[Message, ...]:
    of = Conversation(task.plan_id, task.id)
    with house.database.read() as connection:
        return tuple(reversed(messages.list_(connection, of, limit=1000).items))


def _log(house: House, step_id: str) -> str:
    text: list[str] = []
    after = 0
    with house.database.read() as connection:
        while lines := logs.list_(connection, step_id, after=after, limit=1000).items:
            text += [line.text for line in lines]
            after = lines[-1].id
    return "".join(text)


def _refs(vault: Path) -> Mapping[str, str]:
    lines = git(vault, "for-each-ref", "--format=%(refname) %(objectname)", "refs/holdfast/checkpoints").splitlines()
    return dict(line.split(" ") for line in lines)


def _commits(vault: Path, *arguments: str) -> tuple[str, ...]:
    """Gives the commits in a range, oldest first, each as one line: its subject and its trailers."""
    text = git(vault, "log", "--reverse", "--format=%s | %(trailers:separator=%x2C )", *arguments)
    return tuple(text.splitlines())


def files_of(vault: Path, branch: str) -> Mapping[str, str]:
    """Gives every file of the branch's commit; one that is not an ordinary file shows its mode."""
    listed = [line.partition("\t") for line in git(vault, "ls-tree", "-r", branch).splitlines()]
    objects = [(name, *head.split(" ")) for head, _, name in listed]
    contents = git(vault, "cat-file", "--batch", given="".join(f"{each[3]}\n" for each in objects))
    found: dict[str, str] = {}
    for name, mode, _, _ in objects:
        head, _, contents = contents.partition("\n")
        size = int(head.split(" ")[2])
        found[name] = ("" if mode == "100644" else f"{mode} ") + contents[:size]
        contents = contents[size + 1 :]
    return found
