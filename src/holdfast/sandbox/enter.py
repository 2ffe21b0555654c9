"""Becomes the command, inside the sandbox: `python -I -S enter.py MEMORY PROCESSES SOCKET PORTS COMMAND…`.

MEMORY (bytes for each process) and PROCESSES are limits to take, 0 = none. PROCESSES is taken here and not outside,
because Linux counts it for the user namespace in which it was set: outside, all that the user runs would count.

SOCKET is that of the gate, empty without an allow-list. The namespace has no network but its own loopback, so this
opens ports there and hands them, still listening, to the gate: a port belongs to the namespace that it was opened in,
whoever answers it. Nothing of ours then has to stay alive inside. PORTS are those of the host's loopback to have here.

Alone in one file, with nothing but what C gives Python: it is started for every command.
"""

import _signal  # pyright: ignore[reportMissingImports]
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

PROXY_VARIABLES = (b"HTTP_PROXY", b"HTTPS_PROXY", b"ALL_PROXY")
# What the command starts on its own loopback is reached directly.
DIRECT = b"localhost,127.0.0.1,::1"


def main(memory: int, processes: int, gate: str, ports: list[int], command: list[str]) -> "NoReturn":
    """Becomes `command`."""
    # bwrap ignores TERM, so that it lives as long as the command that is asked to end.
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    lower(resource.RLIMIT_DATA, memory)
    lower(resource.RLIMIT_NPROC, processes)
    environment = given_environment()
    if gate:
        try:
            proxy = open_doors(gate, ports)
        except OSError as error:
            end(125, f"the sandbox's way to the network cannot be opened: {error}")
        for name in PROXY_VARIABLES:
            environment[name] = environment[name.lower()] = proxy
        environment[b"NO_PROXY"] = environment[b"no_proxy"] = DIRECT
        # Node looks at the variables above only if it is told to.
        environment[b"NODE_USE_ENV_PROXY"] = b"1"
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        end(127, f"command not found: {command[0]}")
    except OSError as error:
        end(126, f"cannot execute {command[0]}: {error.strerror}")


def given_environment() -> dict[bytes, bytes]:
    """Gives the environment as it was handed to us: Python adds an LC_CTYPE of its own to the one it shows."""
    with open("/proc/self/environ", "rb") as file:
        pairs = (entry.partition(b"=") for entry in file.read().split(b"\0") if entry)
        return {name: value for name, _, value in pairs}


def lower(limit: int, value: int) -> None:
    """Takes a limit, or the one that is there if that is lower."""
    if value > 0:
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def open_doors(gate: str, ports: list[int]) -> bytes:
    """Opens the port of the proxy and `ports`, hands them to the gate, and gives the proxy's address."""
    import socket

    listeners = []
    for port in [0, *ports]:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        listeners.append(listener)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(gate)
        socket.send_fds(connection, [b"."], [listener.fileno() for listener in listeners])
    proxy = f"http://127.0.0.1:{listeners[0].getsockname()[1]}".encode()
    for listener in listeners:
        listener.close()
    return proxy


def end(code: int, message: str) -> "NoReturn":
    """Ends this process with a message for people; 125 is for us, as with `docker run`."""
    os.write(2, f"holdfast: {message}\n".encode(errors="replace"))
    os._exit(code)


if __name__ == "__main__":
    _, _memory, _processes, _gate, _ports, *_command = sys.argv
    main(int(_memory), int(_processes), _gate, [int(port) for port in _ports.split(",") if port], _command)
