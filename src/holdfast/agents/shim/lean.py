"""The C-level parts of the standard library that the shim needs, without the Python modules around them.

Start-up is paid for every command, in CPU time: `json`, `socket`, `signal` and `ctypes` (with the `re`, `enum` and
`selectors` that they pull in) take 29 ms together, what is behind them 2 ms, a bare interpreter 13 ms. For the same
reason nothing in this folder imports `typing`, `collections`, `contextlib` or `re` at run time.
"""

from __future__ import annotations

import _ctypes  # pyright: ignore[reportMissingImports]
import _json  # pyright: ignore[reportMissingImports]
import _signal as signal  # pyright: ignore[reportMissingImports]
import _socket as socket  # pyright: ignore[reportMissingImports]
import os

__all__ = ["dumps", "failpoint", "loads", "prctl", "signal", "socket"]

_prctl_address = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # pyright: ignore[reportArgumentType]
_failpoint = os.environ.get("HOLDFAST_FAILPOINT")
_failpoint_log = os.environ.get("HOLDFAST_FAILPOINT_LOG")
_passes: dict[str, int] = {}


class _Decoding:
    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = _json.make_scanner(_Decoding())  # pyright: ignore[reportArgumentType]


def loads(text: str) -> object:
    """Gives the value of a JSON text; raises ValueError."""
    text = text.strip()
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def dumps(fields: dict[str, object]) -> bytes:
    """Gives one flat object as a line of JSON."""
    pairs = (f"{_json.encode_basestring(name)}:{_scalar(value)}" for name, value in fields.items())
    return ("{" + ",".join(pairs) + "}\n").encode()


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _json.encode_basestring(value)
    if isinstance(value, list):
        return "[" + ",".join(_scalar(item) for item in value) + "]"
    return repr(value)


def prctl(option: int, argument: int) -> None:
    """Sets a property of this process (prctl(2)); raises OSError."""
    if _ctypes.call_function(_prctl_address, (option, argument, 0, 0, 0)) != 0:
        raise OSError(f"prctl({option}, {argument}) failed")


def failpoint(name: str) -> None:
    """Does in the shim what `holdfast.failpoints` does in the worker: dies here if a crash test asks for it."""
    if _failpoint_log is not None:
        log = os.open(_failpoint_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(log, name.encode() + b"\n")
        os.close(log)
    wanted, _, count = (_failpoint or "").partition(":")
    if wanted == name:
        _passes[name] = _passes.get(name, 0) + 1
        if _passes[name] == int(count or 1):
            os.kill(os.getpid(), 9)
