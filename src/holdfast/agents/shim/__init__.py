"""The shim: the small process that owns one command, so that the command outlives the worker that started it.

The worker's nursery forks it, with the run folder, its locked shim.lock and what to run; the nursery is started as
`python -I -S …/agents/shim/__main__.py --nursery <descriptor>` by `agents/nursery.py`. It imports nothing of holdfast
but its own folder: it must start in a few milliseconds, live for hours, and survive everything that happens to the
worker.

    __main__.py   the entry: finds its own folder, nothing else (it is compiled anew at each start)
    nursery.py    a warm interpreter that forks shims, one a worker: starting Python costs more than all the rest
    run.py        the loop: output to the journal, deadlines, the end of the whole process tree
    ledger.py     writes journal.jsonl: numbered, bounded, never torn in the middle
    redact.py     takes secrets out of texts and streams (the worker uses it too); discreet.py: the ledger that does
    child.py      fork and exec of the command: own session, dies with the shim
    door.py       the unix socket: who may come in, what a client may ask
    tree.py       finds and signals processes without ever hitting a reused pid (the worker uses it too)
    lean.py       the C-level parts of the standard library, where the public module costs more than the rest together

What lies in the run folder (mode 0700):

    launch.json     what is run, without its secrets; written durably by the worker before anything starts
    shim.lock       locked (by open file description) from before the shim exists until it is gone: the proof of life
    journal.jsonl   one record per line; its existence says that the command may have run, `exit` that it ended
    socket          `{"attach": n, "name": text}` `{"stop": grace}` `{"kill": true}` `{"sync": true}`
                    `{"stdin": text, "id": text}` (once per id) `{"close_stdin": true}`
    shim.log        the shim's own standard error; empty unless the shim itself failed

The journal file is the only way that output takes: the socket carries requests in, and out only a bell (`{"n": 17}`)
that says how far the file has grown. So a slow client, an absent one and a late one are the same case, and none of
them can hold up the command.
"""
