"""Answers a confined command's connections: HTTP CONNECT, plain HTTP, and ports of the host's loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from .rules import LOCALHOST, Rules, as_address, canonical

HEAD_MAX_BYTES = 64 << 10
HEAD_SECONDS = 60.0
CONNECT_SECONDS = 30.0
CONNECTIONS_MAX = 256
_PIECE_BYTES = 64 << 10
# Between client and proxy only; the server behind must not see them.
_HOP_HEADERS = (b"proxy-connection", b"proxy-authorization", b"connection", b"keep-alive")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Refused(Exception):
    """Why a request is not passed on, as HTTP status and sentence."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Proxy:
    """Passes on what the rules allow; `denied(host, port, why)` hears of what they do not."""

    def __init__(self, rules: Rules, denied: Callable[[str, int, str], None]) -> None:
        self._rules = rules
        self._denied = denied
        self._places = asyncio.Semaphore(CONNECTIONS_MAX)

    async def answer(self, door: socket.socket) -> asyncio.Server:
        """Serves HTTP at a listening socket."""
        return await asyncio.start_server(self._seated(self._converse), sock=door, limit=HEAD_MAX_BYTES)

    async def pass_on(self, door: socket.socket, port: int) -> asyncio.Server:
        """Joins each connection at a listening socket to the host's own loopback at `port`."""

        async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await splice((reader, writer), await self._connect(LOCALHOST, port))

        return await asyncio.start_server(self._seated(join), sock=door)

    def _seated(
        self, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        """Gives `talk` with a bound on how many go on at once; whatever goes wrong, the connection is closed."""

        async def seated(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with self._places:
                    await talk(reader, writer)
            except Refused as refusal:
                body = f"holdfast: {refusal.why}\n".encode(errors="replace")
                head = f"HTTP/1.1 {refusal.status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                with contextlib.suppress(OSError):
                    writer.write(head.encode() + body)
                    await writer.drain()
            except (OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
                pass  # it went away, or does not speak HTTP
            finally:
                writer.close()

        return seated

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
        request, *headers = head[:-4].split(b"\r\n")
        try:
            method, target, version = request.decode("ascii").split(" ")
            host, port, origin = _destination(method, target)
        except ValueError:
            raise Refused("400 Bad Request", "this is not a request to a proxy") from None
        server = await self._connect(host, port)
        if origin is None:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            kept = [each for each in headers if each.split(b":")[0].strip().lower() not in _HOP_HEADERS]
            # One request a connection: the next one may be for another host.
            lines = [f"{method} {origin} {version}".encode(), *kept, b"Connection: close", b"", b""]
            server[1].write(b"\r\n".join(lines))
        await splice((reader, writer), server)

    async def _connect(self, host: str, port: int) -> Streams:
        """Connects to an allowed host at an address it may lead to; raises `Refused`."""
        if not self._rules.allows(host, port):
            raise self._deny(host, port, "is not in the allow-list")
        last: Exception | None = None
        for address in await self._addresses(host, port):
            try:
                return await asyncio.wait_for(asyncio.open_connection(address, port), CONNECT_SECONDS)
            except (OSError, TimeoutError) as error:
                last = error
        raise Refused("502 Bad Gateway", f"{host}:{port} cannot be reached: {last or 'it has no address'}")

    async def _addresses(self, host: str, port: int) -> list[str]:
        """Gives the addresses of a host that may be used. They are connected to as they are: no second resolution."""
        if canonical(host) == LOCALHOST:
            return ["127.0.0.1", "::1"]
        if (literal := as_address(host)) is not None:
            return [str(literal)]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Refused("502 Bad Gateway", f"{host} cannot be resolved: {error}") from error
        addresses = list(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))
        allowed = [each for each in addresses if self._rules.leads_out(host, ipaddress.ip_address(each))]
        if not allowed:
            raise self._deny(host, port, f"leads to {', '.join(addresses)}, which is not public")
        return allowed

    def _deny(self, host: str, port: int, why: str) -> Refused:
        self._denied(host, port, why)
        return Refused("403 Forbidden", f"{host}:{port} {why}")


def _destination(method: str, target: str) -> tuple[str, int, str | None]:
    """Gives host, port and, for plain HTTP, what to ask the server for; raises ValueError."""
    if method == "CONNECT":
        parts = urlsplit(f"//{target}")
        if not parts.hostname or not parts.port:
            raise ValueError(target)
        return parts.hostname, parts.port, None
    parts = urlsplit(target)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(target)
    return parts.hostname, parts.port or 80, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


async def splice(one: Streams, other: Streams) -> None:
    """Passes bytes both ways until both sides have ended."""
    try:
        await asyncio.gather(_pour(one[0], other[1]), _pour(other[0], one[1]))
    finally:
        other[1].close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
