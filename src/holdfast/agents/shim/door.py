"""The unix socket: lets this user's processes in, takes their requests, rings the bell of the one that follows."""

from __future__ import annotations

import os
import sys

from . import lean
from .lean import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST_MAX_BYTES = 64 << 20
CLIENTS_MAX = 16
_READ_BYTES = 1 << 18


class Client:
    """One connection: what it sent so far without an end of line, and whether it follows the journal."""

    def __init__(self, descriptor: int, pid: int) -> None:
        self.descriptor = descriptor
        self.pid = pid
        self.received = bytearray()
        self.following = False

    def tell(self, **fields: object) -> None:
        """Sends one line if there is room; one that does not read misses bells, never records."""
        try:
            os.write(self.descriptor, lean.dumps(fields))
        except OSError:
            return


class Door:
    """Listens on `socket` in the current folder (relative, so that no path is too long); made before the command."""

    def __init__(self) -> None:
        if os.path.lexists("socket"):
            os.unlink("socket")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        self._listener.bind("socket")
        os.umask(mask)
        self._listener.listen(CLIENTS_MAX)
        self._listener.setblocking(False)
        self.descriptor: int = self._listener.fileno()
        self.clients: dict[int, Client] = {}
        self.follower: Client | None = None

    def welcome(self) -> Client | None:
        """Lets the next client in; None if nobody is there or it is another user's process."""
        try:
            descriptor, _ = self._listener._accept()  # pyright: ignore[reportAttributeAccessIssue]
        except OSError:
            return None
        connection = socket.socket(fileno=descriptor)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        connection.setblocking(False)
        pid, uid = (int.from_bytes(credentials[i : i + 4], sys.byteorder) for i in (0, 4))
        if uid != os.geteuid():
            connection.close()
            return None
        client = Client(connection.detach(), pid)
        self.clients[client.descriptor] = client
        return client

    def surplus(self) -> Client | None:
        """Gives the oldest client that only occupies a place, once there are too many."""
        if len(self.clients) <= CLIENTS_MAX:
            return None
        return next(client for client in self.clients.values() if not client.following)

    def follow(self, client: Client) -> None:
        """Makes the client the one that is told of new records; the one before is told that it no longer is."""
        if self.follower is not None and self.follower is not client:
            self.follower.tell(displaced=True)
            self.follower.following = False
        client.following = True
        self.follower = client

    def dismiss(self, client: Client) -> None:
        """Closes the connection."""
        if self.follower is client:
            self.follower = None
        del self.clients[client.descriptor]
        os.close(client.descriptor)

    def hear(self, client: Client, obey: Callable[[Client, dict], None]) -> bool:
        """Reads what has come and obeys each whole line; False if the client is gone or talks nonsense."""
        try:
            chunk = os.read(client.descriptor, _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        client.received += chunk
        while (end := client.received.find(b"\n")) >= 0:
            line = bytes(client.received[:end])
            del client.received[: end + 1]
            try:
                request = lean.loads(line.decode())
                if not isinstance(request, dict):
                    raise ValueError("a request is an object")
                obey(client, request)
            except (ValueError, TypeError, KeyError) as error:
                client.tell(error=f"bad request: {error}")
                return False
        if len(client.received) > REQUEST_MAX_BYTES:
            client.tell(error=f"a request is longer than {REQUEST_MAX_BYTES} bytes")
            return False
        return bool(chunk)
