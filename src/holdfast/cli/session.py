"""What one call of the program works with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from holdfast.app.wire import House
    from holdfast.settings import Settings

# Off a terminal nothing says how wide a line may be; this keeps tables whole in logs.
WIDTH_OFF_TERMINAL = 160


@dataclass(slots=True)
class Session:
    """The options that every command takes, and the streams and the house that follow from them."""

    json: bool = False
    data: Path | None = None
    db: str = ""
    no_color: bool = False
    verbose: bool = False
    _out: Console | None = None
    _err: Console | None = None

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked: input and messages are a terminal, and the output is not for a program."""
        return not self.json and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def live(self) -> bool:
        """Whether the output may be drawn over and over."""
        return not self.json and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")

    @property
    def out(self) -> Console:
        """Where results go."""
        if self._out is None:
            self._out = self._console(sys.stdout)
        return self._out

    @property
    def err(self) -> Console:
        """Where notes and questions go."""
        if self._err is None:
            self._err = self._console(sys.stderr)
        return self._err

    def _console(self, stream: TextIO) -> Console:
        from rich.console import Console

        class Pipe(Console):
            """A console that leaves it to `main` what a reader that went away means."""

            def on_broken_pipe(self) -> None:
                raise BrokenPipeError

        terminal = stream.isatty()
        columns = os.environ.get("COLUMNS", "")
        wished = int(columns) if columns.isdecimal() else 0
        plain = self.no_color or bool(os.environ.get("NO_COLOR")) or not terminal
        return Pipe(
            file=stream,
            force_terminal=terminal,
            no_color=plain,
            width=None if terminal else wished or WIDTH_OFF_TERMINAL,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=False,
        )

    def note(self, text: str) -> None:
        """Tells a person something beside the result."""
        from holdfast.cli.render import safe

        self.err.print(f"note: {safe(text)}", style="dim", soft_wrap=True)

    def document(self, value: object) -> None:
        """Prints a view as one JSON document."""
        print_line(as_json(value, indent=2))

    def line(self, value: object) -> None:
        """Prints a view as one line of JSON, at once."""
        print_line(as_json(value))

    def more(self, cursor: str | None) -> None:
        """Tells how to see the next page, if there is one."""
        if cursor is not None:
            self.note(f"there is more: --cursor {cursor}")

    def write(self, text: str, target: Path | None) -> None:
        """Writes text to a new file, or to standard output."""
        with self.writing(target) as write:
            write(text)

    @contextmanager
    def writing(self, target: Path | None) -> Generator[Callable[[str], object]]:
        """Lends what writes text to a new file, or to standard output, as it comes."""
        from holdfast.agents.text import strip_control
        from holdfast.errors import UsageError

        if target is None:
            terminal = sys.stdout.isatty()
            yield lambda text: sys.stdout.write(strip_control(text) if terminal else text)
            sys.stdout.flush()
            return
        try:
            with target.open("x", encoding="utf-8") as file:
                yield file.write
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error.strerror}", hint="name another file") from error

    def read(self, source: Path) -> str:
        """Reads a file, or standard input for `-`."""
        from holdfast.errors import UsageError

        try:
            return sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{source} cannot be read: {error}", hint="name an existing text file") from error

    def settings(self) -> Settings:
        """Gives the settings in force; raises `UsageError` for an environment variable that cannot be one."""
        from holdfast.errors import UsageError
        from holdfast.settings import BadSetting, Settings

        given: dict[str, Any] = {}
        if self.data is not None:
            given["data"] = self.data
        if self.db:
            given["db"] = self.db
        try:
            return Settings.read(**given)
        except BadSetting as error:
            raise UsageError(str(error), hint=f"correct or unset {error.variable}") from error

    @contextmanager
    def house(self, *, migrate: bool = True) -> Generator[House]:
        """Opens the data folder and its database for the block."""
        from holdfast.app.wire import open_house

        with open_house(self.settings(), migrate=migrate) as house:
            yield house


def as_json(value: object, *, indent: int | None = None) -> str:
    """Gives a view as JSON; in ASCII alone where a terminal would act on a character, or where it is no text."""
    import json

    from holdfast.app.document import plain

    shown = plain(value)
    text = json.dumps(shown, indent=indent, ensure_ascii=sys.stdout.isatty())
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(shown, indent=indent)
    return text


def print_line(text: str) -> None:
    """Writes one line to standard output and flushes it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
