"""The allow-list: which hosts and addresses it lets through, and how its proxy answers, over real connections."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.agents.conftest import pytest_pyfunc_call  # noqa: F401 - the hook for coroutines

from holdfast.sandbox.gate.proxy import HEAD_MAX_BYTES, Proxy
from holdfast.sandbox.gate.rules import Rules

LIST = ("api.example.org", "*.example.net", "git.example.com:9418", "localhost:8080", "10.0.0.0/8", "[fd00::1]:8443")


@pytest.mark.parametrize(
    ("host", "port", "allowed"),
    [
        ("api.example.org", 443, True),
        ("API.Example.ORG.", 80, True),
        ("api.example.org", 22, False),
        ("example.org", 443, False),
        ("evil-api.example.org", 443, False),
        ("api.example.org.evil.com", 443, False),
        ("a.example.net", 443, True),
        ("a.b.example.net", 443, True),
        ("example.net", 443, False),
        ("badexample.net", 443, False),
        ("git.example.com", 9418, True),
        ("git.example.com", 443, False),
        ("localhost", 8080, True),
        ("127.0.0.1", 8080, True),
        ("localhost", 8081, False),
        ("127.0.0.2", 8080, False),
        ("10.1.2.3", 443, True),
        ("::ffff:10.1.2.3", 443, True),
        ("10.1.2.3", 22, False),
        ("11.1.2.3", 443, False),
        ("2130706433", 8080, False),
        ("fd00::1", 8443, True),
        ("169.254.169.254", 80, False),
    ],
)
def test_only_what_the_list_names_is_allowed(host: str, port: int, allowed: bool) -> None:
    assert Rules(LIST).allows(host, port) is allowed


@pytest.mark.parametrize(
    ("address", "out"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.1.2.3", True),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("fe80::1", False),
    ],
)
def test_a_name_leads_only_to_public_addresses_and_listed_ones(address: str, out: bool) -> None:
    assert Rules(LIST).leads_out("api.example.org", ipaddress.ip_address(address)) is out


def test_the_machines_own_ports_are_those_of_localhost() -> None:
    assert Rules(("localhost:9000", "127.0.0.1:80", "[::1]:8080", "example.org:7")).local_ports == [80, 8080, 9000]


@pytest.mark.parametrize("entry", ["", "*", "*.", "a b", "a/b", "http://a.org", "a.org:http", "a.org:70000", "1.2.3"])
def test_an_entry_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Rules((entry,))


# -- the proxy --------------------------------------------------------------------------------------------------------


class Denied(list[tuple[str, int]]):
    def note(self, host: str, port: int, why: str) -> None:
        self.append((host, port))


@asynccontextmanager
async def proxy(*entries: str, denied: Denied | None = None) -> AsyncIterator[int]:
    """Serves a proxy on loopback; gives its port."""
    door = socket.create_server(("127.0.0.1", 0))
    async with await Proxy(Rules(entries), (Denied() if denied is None else denied).note).answer(door) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serves what says everything back until the client's end; gives its port and what it heard."""
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            heard.append(piece)
            writer.write(piece)
            await writer.drain()
        writer.write(b"end")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], heard


async def ask(port: int, request: bytes) -> bytes:
    """Sends all of a request and gives all of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 240)
    writer.close()
    return answer


async def test_a_tunnel_carries_bytes_both_ways_to_the_end() -> None:
    async with echo() as (port, _), proxy(f"localhost:{port}") as door:
        load = bytes(range(256)) * 4000
        answer = await ask(door, f"CONNECT localhost:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + load)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == load + b"end"


async def test_plain_http_is_asked_of_the_server_without_the_headers_for_the_proxy() -> None:
    async with echo() as (port, heard), proxy(f"localhost:{port}") as door:
        request = f"GET http://localhost:{port}/a?b=c HTTP/1.1\r\nHost: localhost\r\nProxy-Authorization: x\r\n"
        await ask(door, (request + "Connection: keep-alive\r\nAccept: */*\r\n\r\nbody").encode())
    said = b"".join(heard)
    assert said == b"GET /a?b=c HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\nbody"


async def test_a_host_beside_the_list_is_refused_and_told() -> None:
    denied = Denied()
    async with echo() as (port, heard), proxy("example.org", denied=denied) as door:
        answer = await ask(door, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"is not in the allow-list" in answer
    assert (denied, heard) == ([("127.0.0.1", port)], [])


async def test_a_listed_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = Denied()
    async with echo() as (port, heard), proxy(f"rebound.example.org:{port}", denied=denied) as door:

        async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        answer = await ask(door, f"CONNECT rebound.example.org:{port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"which is not public" in answer
    assert (denied, heard) == ([("rebound.example.org", port)], [])


async def test_a_server_that_is_not_there_is_a_bad_gateway() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        async with proxy(f"localhost:{port}") as door:
            answer = await ask(door, f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"CONNECT example.org HTTP/1.1\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"GET https://a/ HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_request_to_a_proxy_is_told_so(request_: bytes) -> None:
    async with proxy("example.org") as door:
        assert (await ask(door, request_)).startswith(b"HTTP/1.1 400 ")


async def test_a_head_without_end_is_cut_off() -> None:
    async with proxy("example.org") as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door)
        writer.write(b"GET http://example.org/ HTTP/1.1\r\n" + b"a: b\r\n" * (HEAD_MAX_BYTES // 3))
        with pytest.raises((ConnectionError, EOFError)):
            await asyncio.wait_for(reader.readexactly(1), 240)
        writer.close()
