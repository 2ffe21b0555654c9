"""The only source of time, ids and chance, so that tests can own all three."""

from __future__ import annotations

import os
import random
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path


def now() -> datetime:
    """Gives the current time in UTC, with microseconds."""
    return datetime.now(UTC)


def new_id() -> str:
    """Gives a new UUID version 7 (RFC 9562): 36 characters, ascending with the time of its making."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def boot_id() -> str:
    """Gives the id of this boot of the machine (Linux, random(4)): another one after each restart."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def jitter() -> float:
    """Gives a number in [0, 1) that spreads retries apart."""
    return random.random()


def new_secret() -> str:
    """Gives 256 bits of chance as the secret of a token: `hft_` and 64 hexadecimal digits."""
    return f"hft_{os.urandom(32).hex()}"
