"""Writes the pages that are made of the source: cli.md, settings.md, errors.md and states.md.

uv run python docs/generate.py            writes them
uv run python docs/generate.py --check    exit code 1 if one is out of date
"""

# ruff: noqa: T201 - a script whose output is for the terminal

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import click

import holdfast
from holdfast import errors
from holdfast.cli import main as cli_main
from holdfast.cli.grammar import Noun, Verb
from holdfast.cli.program import holdfast as program
from holdfast.domain.drawing import states_page
from holdfast.errors import HoldfastError
from holdfast.settings import Settings

HERE = Path(__file__).parent
SOURCE = Path(holdfast.__file__).parent


# -- commands ---------------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Gives the page of all commands, as their `--help` tells them."""
    parts = [
        "# Commands",
        "",
        "Made of the commands themselves by `docs/generate.py`; `holdfast COMMAND --help` says the same.",
        "",
        _paragraph(program.help or ""),
        "",
        "## Options of every command",
        "",
        "They may stand anywhere on the line.",
        "",
        *_options(_shared(program)),
        "",
        "## Exit codes",
        "",
        "| code | meaning |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in exit_codes()),
        "",
        "An error is one line `error: …` and mostly one line `hint: …` on standard error; with `--json` it is",
        '`{"error": {"code", "message", "hint"}}`. The codes are in [errors.md](errors.md).',
        "",
        "## All commands",
        "",
    ]
    commands = list(walk(program, "holdfast"))
    parts += [f"- [`{path}`](#{path.replace(' ', '-')}): {_summary(command)}" for path, command in commands]
    for path, command in commands:
        parts += ["", *_command(path, command)]
    return "\n".join(parts) + "\n"


def walk(group: Noun, path: str) -> Iterator[tuple[str, Verb]]:
    """Gives every command below a group with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        match command:
            case Noun():
                yield from walk(command, f"{path} {name}")
            case Verb():
                yield f"{path} {name}", command
            case _:
                raise TypeError(f"{path} {name} is not made with grammar.verb or grammar.noun")


def exit_codes() -> list[tuple[int, str]]:
    """Gives the exit codes with their meaning, from the docstring of the entry point."""
    told = (cli_main.__doc__ or "").split("\n\n", 1)[1]
    return [(int(code), meaning.strip()) for code, meaning in re.findall(r"(\d+) ([^·\n]+)", told)]


def _command(path: str, command: Verb) -> list[str]:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    own = [each for each in command.params if each not in _shared(command)]
    lines = [f"### {path}", "", "```", f"{path} {usage}", "```", "", _paragraph(command.help or "")]
    if table := _options(own):
        lines += ["", *table]
    if command.example:
        lines += ["", "```", *(line.strip() for line in command.example.strip().splitlines()), "```"]
    return lines


def _shared(command: Noun | Verb) -> list[click.Parameter]:
    return command._shared  # pyright: ignore[reportPrivateUsage] # the help page tells them apart by it, too


def _options(parameters: list[click.Parameter]) -> list[str]:
    records = [
        record
        for each in parameters
        if isinstance(each, click.Option) and (record := each.get_help_record(click.Context(program))) is not None
    ]
    if not records:
        return []
    rows = [f"| `{name.replace('|', '/')}` | {text.replace('|', '/')} |" for name, text in records]
    return ["| option | meaning |", "|---|---|", *rows]


def _summary(command: Verb) -> str:
    return command.get_short_help_str(limit=200)


def _paragraph(text: str) -> str:
    return text.strip()


# -- settings ---------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    """Gives the page of all settings."""
    rows = []
    for field in fields(Settings):
        default = _default(field.name, None if field.default is MISSING else field.default)
        rows.append(f"| `HOLDFAST_{field.name.upper()}` | {default} | {field.metadata['description']} |")
    return (
        "\n".join(
            [
                "# Settings",
                "",
                "Made of `src/holdfast/settings.py` by `docs/generate.py`.",
                "",
                "Each is an environment variable; `--data` and `--db` on a command line win over the first two.",
                "There are no configuration files but those of [agents](agents.md) and of [prices](planning.md).",
                "A value that cannot be one stops the command with exit code 2.",
                "",
                "| variable | default | meaning |",
                "|---|---|---|",
                *rows,
                "",
                "Besides: `NO_COLOR` (any value: no colours), `COLUMNS` (width of tables off a terminal).",
            ]
        )
        + "\n"
    )


def _default(name: str, value: object) -> str:
    match value:
        case None if name == "data":
            return "the system's folder for user data (Linux: `~/.local/share/holdfast`)"
        case None if name == "agents":
            return "`agents.toml` in the system's folder for settings (Linux: `~/.config/holdfast/`)"
        case None if name == "prices":
            return "`prices.toml` in the system's folder for settings (Linux: `~/.config/holdfast/`)"
        case "":
            return "empty"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case str():
            return f"`{value}`".replace(",", ", ")
        case _:
            return f"`{value}`"


# -- errors -----------------------------------------------------------------------------------------------------------


def errors_page() -> str:
    """Gives the page of all error codes: the exit code, and what is said where it comes from."""
    kinds = error_classes()
    rows: list[str] = []
    for kind in sorted(kinds.values(), key=lambda each: (each.exit_code, each.default_code)):
        if "default_code" in vars(kind):
            summary = (kind.__doc__ or "").strip().splitlines()[0] if kind.__doc__ else KINDS[kind.__name__]
            rows.append(f"| `{kind.default_code}` | {kind.exit_code} | {summary} |")
    special: dict[str, str] = {}
    for code, kind, message, hint in raised(kinds):
        special.setdefault(code, f"| `{code}` | {kind.exit_code} | {message} | {hint} |")
    return (
        "\n".join(
            [
                "# Errors",
                "",
                "Made of the source by `docs/generate.py`. A code is stable; a message may change. `…` stands for a",
                "name, a path or a number. Where a code has several messages, the table shows one.",
                "",
                "## Kinds",
                "",
                "| code | exit code | meaning |",
                "|---|---|---|",
                *rows,
                "| `unexpected` | 1 | A bug in Holdfast; its traceback is kept in a file that the hint names. |",
                "",
                "## Special codes",
                "",
                "| code | exit code | message | hint |",
                "|---|---|---|---|",
                *(special[code] for code in sorted(special)),
            ]
        )
        + "\n"
    )


# The meaning of the classes that have no docstring of their own: the tree in `errors.py`.
KINDS = dict(re.findall(r"[├└]── (\w+) +(.+)", errors.__doc__ or ""))


def error_classes() -> dict[str, type[HoldfastError]]:
    """Gives every error class by its name, wherever in the house it is defined."""
    for module in pkgutil.walk_packages([str(SOURCE)], "holdfast."):
        if not re.search(r"\.(migrations|shim)\b|__main__", module.name):
            importlib.import_module(module.name)
    found: dict[str, type[HoldfastError]] = {}
    open_: list[type[HoldfastError]] = [HoldfastError]
    while open_:
        kind = open_.pop()
        if kind.__module__.startswith("holdfast."):
            found[kind.__name__] = kind
            open_ += kind.__subclasses__()
    return found


def raised(kinds: dict[str, type[HoldfastError]]) -> Iterator[tuple[str, type[HoldfastError], str, str]]:
    """Gives code, class, message and hint of each place that makes an error with a code of its own."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                given = {each.arg: _text(each.value) for each in node.keywords}
                if given.get("code", "…") != "…":
                    message = _text(node.args[0]) if node.args else ""
                    yield given["code"], kinds[node.func.id], message, given.get("hint", "")


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return _cell(text)
        case ast.JoinedStr(values=values):
            return _cell("".join(_text(each) for each in values))
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case _:
            return "…"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# -- all --------------------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "errors.md": errors_page,
    "states.md": states_page,
}


def main() -> int:
    stale = [name for name, page in PAGES.items() if not _is_current(HERE / name, page())]
    if "--check" in sys.argv[1:]:
        print("\n".join(f"docs/{name} is out of date: uv run python docs/generate.py" for name in stale))
        return 1 if stale else 0
    for name in stale:
        (HERE / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
