"""The model on one page: what Holdfast knows, and the rules of it. Pure: no files, no database, no clock, no chance.

The one idea
------------
Work leaves three trails: commits (the code), messages (the conversation), steps (the runs). Each is append-only and
every element knows its parent, so each is a tree. A checkpoint binds one point of all three, plus the plan's
variables and its finished tasks. Each task has a head: its current checkpoint. Every operation is one of four moves,
and none of them destroys anything:

    advance   append to the trails, make a checkpoint, move the head to it     run, retry, continue, commit, approve
    rewind    move the head back; what is left behind stays reachable          rewind, rollback, undo, redo
    fork      a new task or plan whose head starts at that checkpoint          fork, resume-from, clone, race
    look      read any point, or compare two                                   history, timeline, diff, time travel

The words
---------
    Project       a git repository that Holdfast works on
    Plan          the top-level piece of work in a project: its phases, gates, variables, budget and branch
    Phase         an ordered group of tasks: sequential, parallel or manual; may be conditional, may pause after it
    Task          the atomic unit of work: an agent's instructions or a command, its dependencies, its attempts
    Step          one run of one attempt of a task, numbered per project: commit before and after, times, exit code
    Checkpoint    one bound point of code, conversation and state, numbered per task
    Conversation  the message tree of a task or of a plan's supervisor
    Gate          a place where a person decides; stored as an approval
    Event         one row of history, written in the transaction of the change it tells
    Worker        a process that runs tasks
    Trash         plans that were deleted, as they were: out of the way, and back with undo until gc empties it

The states (all of them, as tables: `transitions.py`; drawn: docs/states.md)
----------------------------------------------------------------------------
    Plan    draft → running ⇄ waiting (a gate is open)
                    running ⇄ paused (user, phase_complete, task_failed, budget, deadlock, …)
                    running → completed | failed | cancelled
    Phase   pending → running ⇄ paused,  running → completed | failed,  pending → skipped
    Task    pending → (awaiting_approval →) queued → running → completed | failed
                    running → retrying → queued      the next attempt, after a wait
                    running → interrupted → queued   its worker died: recovery
                    running → paused → queued        a person stopped it
                    failed → pending | completed | skipped   tried again, fixed by hand, done without
    Step    no state of its own: it follows from its fields (`step.state`)

Where to read on
----------------
`transitions` (what may follow what) · `readiness` (what may happen next in a plan) · `stages` (its way from request to
result) · `dependencies` (order, levels, cycles, critical path) · `planfile` (YAML ⇄ plan) · `conditions`, `variables`
(what plan files may say) · `edits` (what may change in a plan that exists) · `suggestions`, `revisions` (a reviewer's
changes, and the way back) · `restore` (what going back moves) · `prices`, `estimate`, `stats` (what work costs and
takes, and what it came to) · `conversation`, `transcript`, `prompt`, `sessions`, `supervision` (what agents say, are
told, and know) · `references` (how people name a checkpoint) · `plan`, `task`, `step`, `checkpoint`, `history`,
`budget` (the nouns). Import these modules by name; this one imports nothing.
"""
