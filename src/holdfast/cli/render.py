"""How things look to people: states, times, sizes, tables. Nothing here is printed by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from rich.table import Table
from rich.text import Text

from holdfast import clock
from holdfast.agents.text import strip_control

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from holdfast.domain.plan import Approval, Plan
    from holdfast.domain.step import Step
    from holdfast.domain.usage import Spent
    from holdfast.vcs import Diff

# One look for each word of state, of whatever thing it is.
GLYPHS: Mapping[str, tuple[str, str]] = {
    "draft": ("·", "dim"),
    "pending": ("·", "dim"),
    "awaiting_approval": ("?", "yellow"),
    "queued": ("◌", "cyan"),
    "running": ("●", "cyan"),
    "retrying": ("↻", "yellow"),
    "interrupted": ("⚡", "yellow"),
    "waiting": ("?", "yellow"),
    "paused": ("‖", "yellow"),
    "completed": ("✓", "green"),
    "skipped": ("↷", "dim"),
    "failed": ("✗", "red"),
    "cancelled": ("⊘", "dim"),
    "rolled_back": ("↶", "dim"),
    "open": ("?", "yellow"),
    "approved": ("✓", "green"),
    "rejected": ("✗", "red"),
}


def safe(text: object) -> str:
    """Gives text that a terminal can be shown: one line, no control sequences."""
    return " ".join(strip_control(str(text)).split())


def block(text: str) -> str:
    """Gives text of several lines that a terminal can be shown."""
    return strip_control(text)


def glyph(state: str) -> Text:
    mark, style = GLYPHS.get(state, ("·", ""))
    return Text(mark, style=style)


def word(state: object, more: str = "") -> Text:
    """Gives a state as its mark and its word, in its colour, with what more is to be said of it."""
    mark, style = GLYPHS.get(str(state), ("", ""))
    return Text(f"{mark} {str(state).replace('_', ' ')}{more}".strip(), style=style)


def style_of(state: object) -> str:
    return GLYPHS.get(str(state), ("", ""))[1]


def short(commit: str | None) -> str:
    return (commit or "")[:10]


def seconds(value: float) -> str:
    """Gives a span of time in its two largest units."""
    if value < 10:
        return f"{value:.1f}s"
    if value < 60:
        return f"{value:.0f}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h"


def size(value: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return ""


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def when(moment: datetime | None) -> str:
    """Gives a moment in the local time zone; of today only its time."""
    if moment is None:
        return ""
    local = moment.astimezone()
    today = clock.now().astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M:%S}"


def lasted(start: datetime | None, end: datetime | None) -> float:
    """Gives the seconds between two moments; up to now where it has not ended."""
    if start is None:
        return 0.0
    return max(0.0, ((end or clock.now()) - start).total_seconds())


Cell = str | Text


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = ()) -> Table:
    """Makes a table; cells that are strings are stripped, headings named in `right` hold figures."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in headings:
        made.add_column(
            heading,
            justify="right" if heading in right else "left",
            overflow="fold",
            no_wrap=heading in right,
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in row))
    return made


def facts(rows: Iterable[tuple[str, Cell]]) -> Table:
    """Makes a list of names and values, without those that are empty."""
    made = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value:
            made.add_row(name, value if isinstance(value, Text) else Text(block(value).strip()))
    return made


def say(console: Console, text: str = "", style: str = "") -> None:
    """Prints a paragraph; a long one wraps on a terminal and stays one line elsewhere."""
    console.print(Text(block(text), style=style), soft_wrap=not console.is_terminal)


def show(console: Console, what: RenderableType) -> None:
    """Prints a renderable without the blanks that fill its lines up off a terminal."""
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    console.file.flush()


def plans_table(plans: Sequence[Plan], progress: Mapping[str, str] | None = None) -> Table:
    rows: list[list[Cell]] = []
    for plan in plans:
        row: list[Cell] = [f"P{plan.number}", plan.title, state_of(plan), str(plan.stage).replace("_", " ")]
        if progress is not None:
            row.append(progress.get(plan.id, ""))
        rows.append([*row, when(plan.created_at)])
    headings = ["plan", "title", "status", "stage", *(["tasks"] if progress is not None else []), "created"]
    return table(headings, rows)


def state_of(plan: Plan) -> Text:
    """Gives a plan's status with the reason of its pause."""
    shown = word(plan.status)
    if plan.pause_reason is not None:
        shown.append(f" ({str(plan.pause_reason).replace('_', ' ')})")
    elif plan.stop is not None:
        shown.append(f" (pausing: {plan.stop})")
    return shown


def gates_table(gates: Sequence[Approval]) -> Table:
    rows = [
        [f"A{gate.number}", str(gate.kind), word(gate.status), asked_in(gate), gate.decided_by, gate.comment]
        for gate in gates
    ]
    return table(["gate", "kind", "status", "decision", "by", "comment"], rows)


def asked_in(gate: Approval) -> str:
    """Gives what a person is asked, in full: the title of a question may be cut."""
    question, options = gate.details.get("question"), gate.details.get("options")
    if not question:
        return gate.title
    chosen = " | ".join(str(each) for each in cast("list[object]", options)) if options else ""
    return f"{gate.title.partition(': ')[0]}: {question}" + (f" ({chosen})" if chosen else "")


def steps_table(
    rows: Iterable[tuple[Step, str, str]],
    *,
    parents: Mapping[int, int | None] | None = None,
    restores: Mapping[int, int | None] | None = None,
) -> Table:
    """Makes a table of steps, each with its state and what names its task; with `parents`, what each came after.

    `restores` are the steps whose work some of them brought back.
    """
    from holdfast.domain.step import worked_seconds

    shown = [
        [
            str(step.number),
            *([str(parents.get(step.number) or "")] if parents is not None else []),
            word(state, f", restores {first}" if (first := (restores or {}).get(step.number)) else ""),
            task,
            f"#{step.attempt}",
            short(step.commit_after or step.commit_before),
            str(step.files_changed or ""),
            seconds(worked_seconds(step, clock.now())),
            seconds(step.cpu_seconds),
            size(step.peak_memory_bytes),
            when(step.started_at),
        ]
        for step, state, task in rows
    ]
    after = ["after"] if parents is not None else []
    headings = ["step", *after, "state", "task", "try", "commit", "files", "time", "cpu", "memory", "started"]
    return table(headings, shown, right=("step", *after, "files", "time", "cpu", "memory"))


def diff_text(diff: Diff) -> Text:
    """Gives a diff as unified text, coloured by line."""
    return diff_lines(diff.unified())


def diff_lines(unified: str) -> Text:
    """Gives the text of a unified diff, coloured by line."""
    shown = Text()
    for line in block(unified).splitlines():
        shown.append(f"{line}\n", style=diff_line_style(line))
    shown.rstrip()
    return shown


def diff_line_style(line: str) -> str:
    """Gives the style of a line of a unified diff."""
    if line.startswith(("diff ", "+++", "---")):
        return "bold"
    return {"@": "cyan", "+": "green", "-": "red"}.get(line[:1], "")


def tokens(used: Spent) -> str:
    """Gives tokens by kind, empty where none were told."""
    kinds = (
        (used.input_tokens, "input"),
        (used.output_tokens, "output"),
        (used.cached_tokens, "cached"),
        (used.thought_tokens, "thought"),
    )
    listed = ", ".join(f"{number:,} {kind}" for number, kind in kinds if number)
    return f"{used.total_tokens:,} ({listed})" if listed else ""


def cost(used: Spent) -> str:
    """Gives a cost and how far it is known; empty where nothing was used."""
    if used.cost_usd is None:
        return "unknown" if used.total_tokens else ""
    amount = f"{used.cost_usd:.2f}" if used.cost_usd >= 0.1 or not used.cost_usd else f"{used.cost_usd:.4f}"
    notes = [note for note, so in (("estimated", used.estimated), ("the rest is unknown", used.partly)) if so]
    return f"{amount} USD" + (f" ({', '.join(notes)})" if notes else "")
