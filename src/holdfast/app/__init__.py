"""The verbs (change) and the views (read). Every surface parses, calls one of them, renders; no surface has a rule.

    wire.py       opens the parts; the only place that chooses concrete classes
    document.py   any view as plain JSON values with stable keys
    projects.py   init, find the project of a folder
    plans.py      create, execute, pause, resume, cancel, export, merge
    edits.py      change a plan that exists: its fields, phases and tasks
    planning.py   generate, review, apply, revert, estimate
    targets.py    the checkpoint that a person names
    supervisor.py ask a plan's supervisor, go on with what was cut off
    checkpoints.py   list and compare a task's checkpoints, a git branch of one
    rewinds.py, undo.py   go back, take it back
    conversation_rewinds.py   go back in a conversation
    forks.py      a new task that starts where another one was
    continuations.py   let a task that does not run go on
    tasks.py      retry, skip, complete by hand, approve, checkpoint, diff
    approvals.py  the gates and their decisions; the questions of agents
    tokens.py     make, revoke, and what the bearer of one reaches
    steps.py      list, show, compare, log, export, import
    history.py    timeline
    stats.py      what plans, tasks, steps and agents came to
    execution.py  work on plans in this process and follow them
    retention.py  take away what nobody needs any more
    database.py   migrate, backup, restore, check, stats

A verb takes a `House` first, does what it says in one transaction, and gives the changed thing. Errors are those of
`holdfast.errors`.
"""
