"""Going back: `task rewind`, `plan rollback`, `undo`, `redo`, `operations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.cli.grammar import dry_run_option, verb, yes_option
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.rewinds import How, Preview
    from holdfast.app.undo import Deed
    from holdfast.store import Operation

Function = TypeVar("Function", bound=Callable[..., Any])

_KINDS = ("create_branch", "stash", "discard")


def preserve_options(function: Function) -> Function:
    """Adds what every going back asks: how to keep what is left behind, which files, and whether at all."""
    preserve = click.option(
        "--preserve",
        type=click.Choice(_KINDS),
        default="create_branch",
        show_default=True,
        help="How to keep the work that is left behind; its checkpoint `before …` is made in any case.",
    )
    branch = click.option("--branch-name", default="", metavar="NAME", help="Name of the branch that keeps it.")
    return preserve(branch(yes_option(dry_run_option(function))))


files_option = click.option(
    "--files",
    "files",
    multiple=True,
    metavar="PATH",
    help="Only this file or folder; again for more.",
)
to_option = click.option(
    "--to", "target", required=True, metavar="CHECKPOINT", help="Number, T4@3, id, commit, name, stage or `latest`."
)


def how(preserve: str, branch_name: str, files: tuple[str, ...] = ()) -> How:
    from holdfast.app.rewinds import How
    from holdfast.domain.restore import Preserve

    return How(Preserve(preserve), branch_name, files)


@verb("rewind", example="holdfast task rewind T4 --to 3")
@click.argument("task", metavar="TASK")
@to_option
@files_option
@preserve_options
def rewind(session: Session, task: str, target: str, **options: Any) -> int:
    """Put a task back to one of its checkpoints: files, branch, conversation and state.

    On a branch that tasks share, what came later goes back with it. Nothing is lost: `holdfast undo` takes it back.
    """
    from holdfast.app import rewinds, tasks
    from holdfast.app.targets import find_checkpoint

    with session.house() as house:
        view = tasks.show(house, tasks.find(house, task))
        with house.database.read() as connection:
            checkpoint = find_checkpoint(connection, target, task=view.task, plan=view.plan)
        chosen = how(options["preserve"], options["branch_name"], options["files"])
        preview = rewinds.preview_rewind(house, view.task.id, checkpoint, chosen)
        name = f"T{view.task.number}"
        deed = f"{_back(name, options['files'])} to {name}@{checkpoint.number}"
        if not agreed(session, deed, preview, options):
            return 0
        return told(session, rewinds.rewind_task(house, view.task.id, checkpoint, chosen), deed)


def _back(name: str, files: tuple[str, ...]) -> str:
    from holdfast.cli.render import safe

    return f"take {safe(', '.join(files))} of {name} back" if files else f"take {name} back"


@verb("rollback", example="holdfast plan rollback P3 --to after_planning")
@click.argument("plan", metavar="PLAN")
@to_option
@files_option
@click.option("--tasks", "only", multiple=True, metavar="TASK", help="Only the state of this task; again for more.")
@preserve_options
def rollback(session: Session, plan: str, target: str, **options: Any) -> int:
    """Put a plan back to a checkpoint of it or of one of its tasks; it is paused then."""
    from holdfast.app import plans, rewinds, tasks
    from holdfast.app.targets import find_checkpoint

    with session.house() as house:
        view = plans.show(house, plans.find(house, plan))
        with house.database.read() as connection:
            checkpoint = find_checkpoint(connection, target, task=None, plan=view.plan)
        ids = [tasks.find(house, each, plan_id=view.plan.id) for each in options["only"]]
        chosen = how(options["preserve"], options["branch_name"], options["files"])
        preview = rewinds.preview_rollback(house, view.plan.id, checkpoint, chosen, ids)
        owner = {task.id: f"T{task.number}" for task in view.tasks}
        taken = ", ".join(owner[each] for each in ids) or f"P{view.plan.number}"
        point = f"{owner.get(checkpoint.task_id or '', f'P{view.plan.number}')}@{checkpoint.number}"
        deed = f"{_back(taken, options['files'])} to {point}{f' ({checkpoint.name})' if checkpoint.name else ''}"
        if not agreed(session, deed, preview, options):
            return 0
        return told(session, rewinds.rollback_plan(house, view.plan.id, checkpoint, chosen, ids), deed)


@verb("undo", example="holdfast undo")
@click.argument("name", metavar="[OPERATION]", required=False, default="")
@click.option("--plan", default="", metavar="PLAN", help="Only what was done to this plan.")
@yes_option
@dry_run_option
def undo(session: Session, name: str, plan: str, yes: bool, dry_run: bool) -> int:
    """Take back the last rewind, rollback, fork, retry, continuation, deletion or edit.

    Or the one that is named, if nothing has moved on since: `holdfast operations` lists them.
    """
    from holdfast.app import plans
    from holdfast.app import undo as verbs
    from holdfast.cli.consent import consents

    with session.house() as house:
        plan_id = plans.find(house, plan, deleted=True) if plan else None
        deed = verbs.chosen(house, name, plan_id=plan_id)
        if dry_run:
            verbs.may_take_back(house, deed)
        if not consents(session, f"undo {described(deed)}", yes=yes, dry_run=dry_run):
            return 0
        return _done(session, verbs.undo(house, deed.name, plan_id=plan_id), f"undone: {described(deed)}")


@verb("redo", example="holdfast redo")
@click.option("--plan", default="", metavar="PLAN", help="Only what was done to this plan.")
@yes_option
@dry_run_option
def redo(session: Session, plan: str, yes: bool, dry_run: bool) -> int:
    """Put again what was undone last."""
    from holdfast.app import plans
    from holdfast.app import undo as verbs
    from holdfast.cli.consent import consents

    with session.house() as house:
        plan_id = plans.find(house, plan, deleted=True) if plan else None
        deed = verbs.undone(house, plan_id=plan_id)
        if dry_run:
            verbs.may_take_back(house, deed)
        if not consents(session, f"put {deed.undoes} again", yes=yes, dry_run=dry_run):
            return 0
        return _done(session, verbs.redo(house, plan_id=plan_id), f"{deed.undoes} is in effect again")


@verb("operations", example="holdfast operations --plan P3")
@click.option("--plan", default="", metavar="PLAN", help="Only those of this plan.")
def operations(session: Session, plan: str) -> int:
    """List what can be undone, newest first."""
    from holdfast.app import plans
    from holdfast.app import undo as verbs
    from holdfast.cli.render import say, show, table, when

    with session.house() as house:
        found = verbs.deeds(house, plan_id=plans.find(house, plan, deleted=True) if plan else None)
    if session.json:
        session.document({"items": found, "next_cursor": None})
    elif not found:
        say(session.out, "nothing that could be undone was done yet")
    else:
        rows = [
            [
                each.name,
                each.kind.replace("_", " "),
                each.of,
                each.told or each.undoes,
                state,
                each.kept,
                each.actor,
                when(each.at),
            ]
            for each in found
            for state in ["" if each.in_effect else "undone"]
        ]
        show(session.out, table(["operation", "kind", "of", "what", "", "kept", "by", "when"], rows))
    return 0


def described(deed: Deed) -> str:
    return f"{deed.name}, {deed.kind.replace('_', ' ')} of {deed.of}: {deed.told or deed.undoes}".strip(" :")


def _done(session: Session, deed: Deed, text: str) -> int:
    if session.json:
        session.document(deed)
    else:
        session.out.print(f"{text} ({deed.name})", soft_wrap=True)
    return 0


# -- shown before and after ------------------------------------------------------------------------------------------


def agreed(session: Session, deed: str, preview: Preview, options: Mapping[str, Any]) -> bool:
    """Shows what going back would do and asks; `--dry-run` only shows it."""
    from holdfast.cli.consent import consents

    if session.json and options["dry_run"]:
        session.document({"dry_run": True, "would": deed, **_as_document(preview)})
        return False
    if not session.json:
        _show(session, preview)
    return consents(session, deed, yes=options["yes"], dry_run=options["dry_run"])


def _as_document(preview: Preview) -> dict[str, Any]:
    return {
        "rolled_back": [step.number for step in preview.rolled_back],
        "restored": [step.number for step in preview.restored],
        "tasks": [
            {"task": f"T{task.number}", "from": move.before.status, "to": move.after.status}
            for task, move in zip(preview.tasks, preview.restoration.tasks, strict=True)
        ],
        "commits": preview.left,
        "files": [each.to_dict() for each in preview.files],
        "messages": preview.messages,
    }


def _show(session: Session, preview: Preview) -> None:
    from holdfast.cli.render import count, facts, safe, short, show

    moves = [
        f"T{task.number} {safe(task.title)}: {move.before.status} → {move.after.status}"
        if move.before.status is not move.after.status
        else f"T{task.number} {safe(task.title)}: {move.after.status}, at T{task.number}@{move.after.head_checkpoint}"
        for task, move in zip(preview.tasks, preview.restoration.tasks, strict=True)
    ]
    files = [f"{str(file.action)[0].upper()} {safe(file.path)}" for each in preview.files for file in each.files]
    changed = sorted(set(files), key=files.index)
    more = [f"… {count(len(changed), 'file')} in all"] if len(changed) > 20 else []
    rows = [
        ("  steps rolled back", ", ".join(str(step.number) for step in preview.rolled_back)),
        ("  steps restored", ", ".join(str(step.number) for step in preview.restored)),
        ("  tasks", "\n".join(moves)),
        ("  commits left", ", ".join(short(commit) for commit in preview.left)),
        ("  files", "\n".join([*changed[:20], *more])),
        ("  messages left", str(preview.messages or "")),
    ]
    show(session.out, facts(rows))


def told(session: Session, operation: Operation, deed: str) -> int:
    """Tells what was done and where the work that was left behind is."""
    if session.json:
        session.document({"operation": f"O{operation.number}", "kind": operation.kind, **operation.outcome})
        return 0
    session.out.print(f"done: {deed} (O{operation.number})", soft_wrap=True)
    kept = operation.outcome.get("preserved")
    if isinstance(kept, dict):
        session.out.print(f"what was left behind is kept as {kept['type']} {kept['reference']}", soft_wrap=True)
        if kept["type"] == "stash":
            session.note(f"to have it again, in the worktree: git stash apply {kept['commit']}")
        elif not kept.get("exported", True):
            session.note("no repository has that branch; without git a plan may start from it, with --base")
    session.note("take it back: holdfast undo")
    return 0
