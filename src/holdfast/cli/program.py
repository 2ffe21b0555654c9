"""The program `holdfast`: its commands by name, each with the module that is loaded when it is called."""

from __future__ import annotations

import click

from holdfast import __version__
from holdfast.cli.grammar import Noun

_AT = "holdfast.cli."

COMMANDS: dict[str, tuple[str, str]] = {
    "init": (f"{_AT}project_commands", "Register a git repository, or a folder without git, as a project."),
    "project": (f"{_AT}project_commands", "Projects: show them, change their settings."),
    "run": (f"{_AT}run_commands", "Run a plan file, or a plan drafted for a request, and show its progress."),
    "resume": (f"{_AT}run_commands", "Go on with what was interrupted or paused."),
    "status": (f"{_AT}status_commands", "Show unfinished plans, open gates and workers, or one plan."),
    "watch": (f"{_AT}run_commands", "Watch a plan that another process works on."),
    "worker": (f"{_AT}run_commands", "Work on everybody's plans until stopped."),
    "demo": (f"{_AT}demo", "Show the whole job on a small real repository, with a kill half-way."),
    "plan": (f"{_AT}plan_commands", "Plans: make, edit, list, start, stop, decide, take the result."),
    "phase": (f"{_AT}phase_commands", "Phases: add, edit, remove."),
    "supervisor": (f"{_AT}supervisor_commands", "The supervisor of a plan: ask it, go on with what was cut off."),
    "task": (f"{_AT}task_commands", "Tasks: add, edit, look, retry, skip, complete, decide, checkpoint, fork."),
    "conversation": (
        f"{_AT}conversation_commands",
        "Conversations: show them, keep snapshots of them, go back in them.",
    ),
    "steps": (f"{_AT}step_commands", "List the steps of a project, newest first."),
    "step": (f"{_AT}step_commands", "Steps: show, compare, read the log, export, import."),
    "timeline": (f"{_AT}timeline_commands", "Show what happened, when, and by whom; newest first."),
    "stats": (
        f"{_AT}stats_commands",
        "Sum up plans, tasks and steps: how they went, how long they took, what they used.",
    ),
    "undo": (
        f"{_AT}rewind_commands",
        "Take back the last rewind, rollback, fork, retry, continuation, deletion or edit.",
    ),
    "redo": (f"{_AT}rewind_commands", "Put again what was undone last."),
    "operations": (f"{_AT}rewind_commands", "List what can be undone, newest first."),
    "trash": (f"{_AT}trash_commands", "The trash: plans that were deleted, and may come back."),
    "log": (f"{_AT}timeline_commands", "Print the whole record of a plan as one JSON document: its audit trail."),
    "approvals": (
        f"{_AT}approval_commands",
        "List the gates where a person decides, or show one with all that it asks for.",
    ),
    "approve": (f"{_AT}approval_commands", "Approve an open gate."),
    "reject": (f"{_AT}approval_commands", "Reject an open gate."),
    "answer": (f"{_AT}approval_commands", "Answer the question of an agent."),
    "agent": (f"{_AT}agent_commands", "Agents: which there are, and what they can do."),
    "mcp": (f"{_AT}mcp_commands", "Offer an agent the tools of its plan or task, on standard input and output."),
    "token": (f"{_AT}token_commands", "Tokens: let programs and agents in, and out again."),
    "db": (f"{_AT}database_commands", "The database: migrate, back up, restore, check, count."),
    "gc": (f"{_AT}retention_commands", "Take away what nobody needs any more, and say what that frees."),
    "completion": (f"{_AT}completion_commands", "Print the completion script of a shell."),
}

HELP = """Runs plans of coding-agent work on git repositories, durably.

Killed anywhere, a plan goes on exactly where it was. Things have short names: plan P12, task T31, gate A3, step 7,
checkpoint T31@4; a slug, a key or the beginning of an id will do as well.
"""

EXAMPLE = """
holdfast demo                 see it work, on a repository of its own
holdfast init                 register the repository you are in
holdfast run plan.yaml        run a plan; Ctrl-C pauses it
holdfast resume               go on after a pause, a crash or a kill
"""

holdfast = Noun("holdfast", help=HELP, example=EXAMPLE, lazy=COMMANDS)
holdfast.context_settings = {"help_option_names": ["-h", "--help"]}
holdfast = click.version_option(__version__, "-V", "--version", prog_name="holdfast")(holdfast)
