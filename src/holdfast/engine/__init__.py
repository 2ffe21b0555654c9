"""The engine: durable workflows that run plans, on DBOS Transact. Only this room imports `dbos`.

Our tables say what is true of the work; DBOS's tables only say which workflow is where. So a workflow takes ids, reads
our tables, and decides from them. Whatever a step does can be done again: it looks whether it is done, does it, and
records it, fenced by the task's claim.

    queues.py     names of queues and workflows; enqueue and wake inside a transaction of ours
    places.py     where things lie in the data folder
    runtime.py    what a worker's workflows work with: database, settings, workspaces
    workspace.py  vaults and worktrees of plans and tasks; commits and checkpoints made of them
    kept.py       the ignored files that a project wants kept: stored with each checkpoint, put back with it
    driving.py    starts the next driver of a plan
    plan_run.py   the driver of one plan: walks the stages, starts tasks, merges, pauses, completes
    task_run.py   one run of one attempt of a task: prepare, execute, seal
    agent_tools.py   gives an agent the tools of Holdfast, through its sandbox
    parts.py      what work outside of a task needs of its process
    inquiries.py  what a plan's supervisor is asked, and how far that has come
    supervisor.py holds the session in which a plan's supervisor answers
    replanning.py asks it what to do when tasks have failed
    editing.py, suggesting.py   edits of plans and suggestions, as rows
    control.py    carries stop requests and reached budgets to what runs in this worker
    requests.py   checkpoints that a command asks for while a worker has the worktree
    recovery.py   takes over the work of dead workers and restarts what has no live workflow
    retention.py  takes away what nobody needs any more
    worker.py     a process that executes: takes its lock, launches DBOS, stops
"""
