"""Commands and groups of commands: their help with an example, and the options that every one of them takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from holdfast.cli.session import Session

# Metavars of what narrows a command to one thing.
_NAMED = ("SLUG", "PLAN", "TASK")
Function = TypeVar("Function", bound=Callable[..., Any])


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Puts an option that all commands share into the session, wherever on the line it stood."""
    if value and parameter.name:
        setattr(context.ensure_object(Session), parameter.name, value)


def _shared_options() -> list[click.Parameter]:
    given: dict[str, Any] = {"expose_value": False, "callback": _keep, "is_eager": True}
    return [
        click.Option(["--json"], is_flag=True, help="Print JSON: one document, or a line each for streams.", **given),
        click.Option(
            ["--data"],
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="Data folder (like HOLDFAST_DATA).",
            **given,
        ),
        click.Option(["--db"], metavar="URL", help="Database (like HOLDFAST_DB).", **given),
        click.Option(["--no-color"], is_flag=True, help="No colours (like NO_COLOR).", **given),
        click.Option(["-v", "--verbose"], is_flag=True, help="Tell more; show tracebacks.", **given),
    ]


class _Documented(click.Command):
    """Shows an `Example:` block, and the shared options apart from the command's own."""

    def __init__(self, *args: Any, example: str = "", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.example = example
        self._shared = _shared_options()
        self.params = [*self.params, *self._shared]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                (shared if parameter in self._shared else own).append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        with formatter.section("Options of every command"):
            formatter.write_dl(shared)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.example:
            with formatter.section("Example"):
                for line in self.example.strip().splitlines():
                    formatter.write(f"{' ' * formatter.current_indent}{line.strip()}\n")


class Verb(_Documented):
    """One command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuses an empty name of what to work on: the unset variable of a script, that would mean all there is."""
        rest = super().parse_args(ctx, args)
        for option in self.params:
            name = option.name if option.metavar in _NAMED else None
            if name and ctx.params.get(name) == "" and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.BadParameter("nothing is named", ctx=ctx, param=option)
        return rest


class Noun(_Documented, click.Group):
    """A group of commands. Those in `lazy` (name → module, summary) are loaded when they are called."""

    def __init__(
        self, *args: Any, example: str = "", lazy: Mapping[str, tuple[str, str]] | None = None, **attributes: Any
    ) -> None:
        super().__init__(*args, example=example, **attributes)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _ = self.lazy[cmd_name]
        name = cmd_name.replace("-", "_")
        return getattr(import_module(module), f"{name}_" if iskeyword(name) else name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            from holdfast.domain.words import did_you_mean
            from holdfast.errors import UsageError

            hint = did_you_mean(name, self.list_commands(ctx))
            raise UsageError(f"{ctx.command_path} has no command {name!r}", hint=hint or f"{ctx.command_path} --help")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _Documented.format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, summary) for name, (_, summary) in self.lazy.items()]
        for name, command in self.commands.items():
            rows.append((name, command.get_short_help_str(limit=200)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def verb(self, name: str, *, example: str) -> Callable[[Callable[..., Any]], Verb]:
        """Adds a command to this group; its function takes the `Session` first."""

        def make(function: Callable[..., Any]) -> Verb:
            made = verb(name, example=example)(function)
            self.add_command(made)
            return made

        return make


def verb(name: str, *, example: str) -> Callable[[Callable[..., Any]], Verb]:
    """Makes a command of a function that takes the `Session` first; its docstring's first line is the summary."""

    def make(function: Callable[..., Any]) -> Verb:
        return click.command(name, cls=Verb, example=example)(click.pass_obj(function))

    return make


def noun(name: str, *, example: str, help: str, lazy: Mapping[str, tuple[str, str]] | None = None) -> Noun:
    """Makes a group of commands, empty but for those that are `lazy`."""
    return Noun(name, example=example, help=help, lazy=lazy, no_args_is_help=True)


project_option = click.option(
    "--project", default="", metavar="SLUG", help="The project; by default that of the current folder."
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


def page_options(limit: int) -> Callable[[Function], Function]:
    """Adds `--limit` and `--cursor`."""

    def add(function: Function) -> Function:
        size = click.option(
            "--limit", default=limit, show_default=True, type=click.IntRange(1, 1000), help="Most rows to show."
        )
        cursor = click.option("--cursor", default="", metavar="CURSOR", help="Go on after the page that named it.")
        return size(cursor(function))

    return add


def pairs(values: Iterable[str]) -> dict[str, str]:
    """Reads `NAME=VALUE` words; raises a usage error for any other."""
    found: dict[str, str] = {}
    for word in values:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="--var")
        found[name] = value
    return found
