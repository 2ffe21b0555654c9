"""The gate: stands around a confined command that has no network, and lets it reach the hosts of its allow-list.

It is started under the shim as `python -I -S …/sandbox/gate/__main__.py FOLDER HOST… -- COMMAND…`, where COMMAND starts
the sandbox, and imports nothing of holdfast but its own folder. It is an ancestor of the command and not a part of the
worker: it lives exactly as long as the run, whatever happens to the worker. If it dies, so does the command.

    __main__.py   the entry: finds its own folder, nothing else
    run.py        starts the command, and ends with its exit code
    serving.py    takes the doors that `enter.py` hands over, and writes down what was refused
    proxy.py      answers at the doors: HTTP CONNECT and plain HTTP, and ports of the host's loopback
    rules.py      which hosts and addresses are allowed (the worker checks settings with it)
"""
