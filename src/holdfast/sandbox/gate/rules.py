"""Says which hosts and addresses a confined command may reach. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The ports of an entry that names none.
PORTS = (80, 443)
LOCALHOST = "localhost"
_LOOPBACK = ("127.0.0.1", "::1", "[::1]")
_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")


class Rules:
    """An allow-list. An entry is one of these; with a name or an address may stand `:PORT`, else it is 80 and 443:

        api.example.org     exactly this host
        *.example.org       every host below it, not the domain itself
        localhost:8080      this port of the machine's own loopback
        10.0.0.0/8          addresses that a host may resolve to, or that may be asked for, though they are not public

    Addresses are looked at once a name is resolved: what is not public (private, loopback, link-local, multicast …) is
    refused unless an entry has it, so a name cannot be made to lead inside. Raises ValueError for any other entry.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[tuple[str, int]] = set()
        self._domains: set[tuple[str, int]] = set()
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, tuple[int, ...]]] = []
        for entry in entries:
            self._add(entry.strip())

    def _add(self, entry: str) -> None:
        host, port = _split(entry)
        name = canonical(host)
        ports = PORTS if port is None else (port,)
        try:
            self._networks.append((ipaddress.ip_network(name), ports))
        except ValueError:
            if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
                raise ValueError(
                    f"{entry!r} is not a host, *.domain, address or network, with or without :PORT"
                ) from None
            if name == LOCALHOST and port is None:
                raise ValueError("localhost needs its port in an allow-list: localhost:8080") from None
            known, name = (self._domains, name[2:]) if name.startswith("*.") else (self._names, name)
            known.update((name, each) for each in ports)

    @property
    def local_ports(self) -> list[int]:
        """The ports of the machine's loopback that are allowed."""
        return sorted(port for name, port in self._names if name == LOCALHOST)

    def allows(self, host: str, port: int) -> bool:
        """Says whether `host`, a name or an address as it was asked for, may be reached at `port`."""
        name = canonical(host)
        address = as_address(name)
        if address is not None:
            return any(port in ports and address in network for network, ports in self._networks)
        above = name.split(".")[1:]
        return (name, port) in self._names or any(
            (".".join(above[i:]), port) in self._domains for i in range(len(above))
        )

    def leads_out(self, host: str, address: Address) -> bool:
        """Says whether an allowed `host` may lead to this address of it."""
        address = _plain(address)
        if canonical(host) == LOCALHOST:
            return address.is_loopback
        public = address.is_global and not address.is_multicast
        return public or any(address in network for network, _ in self._networks)


def canonical(host: str) -> str:
    """Gives the one spelling of a host that is compared; the machine's own loopback is `localhost`."""
    return LOCALHOST if host in _LOOPBACK else host.lower().removesuffix(".")


def as_address(host: str) -> Address | None:
    """Gives the address that `host` spells, None if it is a name."""
    try:
        return _plain(ipaddress.ip_address(host))
    except ValueError:
        return None


def _plain(address: Address) -> Address:
    """Gives the IPv4 address inside of an IPv6 one that only carries it."""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _split(entry: str) -> tuple[str, int | None]:
    """Gives host and port of `host`, `host:port`, `[address]:port` or an address with colons in it."""
    found = re.fullmatch(r"\[(.+)\](?::(\d{1,5}))?|([^:]*)(?::(\d{1,5}))?", entry)
    if found is None:
        return entry, None
    port = found[2] or found[4]
    if port is not None and not 0 < int(port) < 65536:
        raise ValueError(f"{entry!r}: no port is {port}")
    return found[1] or found[3], int(port) if port is not None else None
