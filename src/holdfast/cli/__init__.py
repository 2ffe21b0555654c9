"""The command line: each command parses, calls one verb of `app/`, and renders. It has no rule of its own.

    main.py        the entry point: errors, exit codes, tracebacks
    program.py     the table of commands, loaded when they are called
    grammar.py     groups and commands with their examples and the options that all share
    session.py     what one call works with: settings, streams, colours, the house
    render.py      tables, states, times and sizes for people; JSON for programs
    board.py       a plan as a live picture
    events.py      one event of history as one line
    follow.py      works on a plan and shows it until it ends: signals, gates, what to do next
    edits.py       what the commands that edit a plan share
    consent.py     asks before what cannot be taken back
    *_commands.py  the commands, a module per noun
    demo.py        the main job in a folder of its own

`--help` must stay cheap: at import time these modules load click and nothing else. Whatever was stored by an agent or
a command is stripped of control sequences before a terminal sees it (`render.safe`).
"""
