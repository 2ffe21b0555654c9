"""The entry point: runs a command and turns every error into one message, a hint and an exit code.

0 ok · 1 error · 2 usage · 3 illegal state · 4 not found · 5 no worker, agent or sandbox · 6 the plan failed
7 it waits for a person · 8 it still runs · 9 over budget · 130 interrupted · 141 the reader went away
"""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from holdfast.cli.session import Session
from holdfast.errors import HoldfastError, UsageError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
FULL = (errno.ENOSPC, errno.EDQUOT)


def main() -> NoReturn:
    """Runs the program with the arguments of this process and ends it with the command's exit code."""
    # The modules make a hundred thousand objects that stay: to look through them again and again finds no garbage and
    # takes a tenth of the time to start.
    gc.set_threshold(50_000, 20, 20)
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _reader_gone()
    except OSError as error:
        code = code or _disk_failed(Session(json="--json" in sys.argv), error)
        _reader_gone()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and gives its exit code; prints its errors and raises none."""
    session = Session()
    # Errors of the command line itself come before `--json` has been read.
    session.json = "--json" in arguments
    _tolerate_any_bytes()
    try:
        return _invoke(session, arguments)
    except HoldfastError as error:
        report(session, error.code, error.message, error.hint)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - a noun alone asks what there is
        return error.exit_code
    except click.ClickException as error:
        report(session, "usage", *_usage(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        return _disk_failed(session, error) if error.errno in (*FULL, errno.EIO) else _unexpected(session, error)
    except Exception as error:  # noqa: BLE001 - the last wall: a bug of ours is told in one line, its traceback kept
        return _unexpected(session, error)


def _invoke(session: Session, arguments: Sequence[str]) -> int:
    from holdfast.cli.program import holdfast

    result = holdfast.main(args=list(arguments) or ["--help"], prog_name="holdfast", standalone_mode=False, obj=session)
    return result if isinstance(result, int) else 0


def report(session: Session, code: str, message: str, hint: str) -> None:
    """Writes an error to standard error, for a person or as JSON."""
    from holdfast.agents.text import strip_control

    if session.json:
        text = json.dumps({"error": {"code": code, "message": message, "hint": hint}}, ensure_ascii=False)
    else:
        text = f"error: {strip_control(message)}"
        text += f"\nhint: {strip_control(hint)}" if hint else ""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - the one place where errors are shown
    except BrokenPipeError:
        _reader_gone()


def _usage(error: click.ClickException) -> tuple[str, str]:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return error.format_message(), f"{error.ctx.command_path} --help"
    return error.format_message(), ""


def _disk_failed(session: Session, error: OSError) -> int:
    """Tells that a write failed, most often that of the output itself: into a file on a full disk."""
    code, hint = "disk_failed", "check the disk and the folder's rights"
    if error.errno in FULL:
        code, hint = "disk_full", "free some disk space"
    report(session, code, f"{error.filename or 'the output'}: {error.strerror or error}", hint)
    return EXIT_ERROR


def _unexpected(session: Session, error: Exception) -> int:
    """Tells of a bug in one line and keeps its traceback in a file."""
    import traceback

    trace = "".join(traceback.format_exception(error))
    if session.verbose:
        print(trace, file=sys.stderr)  # noqa: T201 - asked for with -v
    place = _keep_traceback(session, trace)
    message = f"unexpected {type(error).__name__}: {error}"
    report(session, "unexpected", message, f"this is a bug in holdfast; its traceback is in {place}")
    return EXIT_ERROR


def _keep_traceback(session: Session, trace: str) -> Path:
    import tempfile

    from holdfast import clock

    name = f"error-{clock.now():%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    try:
        folder = session.settings().data / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(trace, encoding="utf-8", errors="backslashreplace")
    except (OSError, UsageError):
        path = Path(tempfile.gettempdir()) / f"holdfast-{name}"
        path.write_text(trace, encoding="utf-8", errors="backslashreplace")
    return path


def _tolerate_any_bytes() -> None:
    """Lets names that are no UTF-8, and text that the terminal's encoding lacks, be printed rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf8 else "replace")


def _reader_gone() -> int:
    """Keeps the interpreter from failing again at exit on a pipe that nobody reads."""
    void = os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, sys.stdout.fileno())
    return EXIT_PIPE
