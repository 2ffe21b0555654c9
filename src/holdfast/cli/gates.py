"""What a person sees of a gate before deciding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from rich.text import Text

from holdfast.cli.render import diff_lines, facts
from holdfast.domain.plan import Approval, ApprovalKind

if TYPE_CHECKING:
    from rich.console import RenderableType

DIFF_LINES = 20


def asked(gate: Approval, *, whole: bool = False) -> Iterator[RenderableType]:
    """Gives what an agent asks permission for: its tool, command, paths and diff, a long one only if `whole`."""
    if gate.kind is not ApprovalKind.PERMISSION:
        return
    told = gate.details
    name = f"A{gate.number}"
    rows = [
        (f"  {name} kind", str(told.get("kind", ""))),
        ("  tool", str(told.get("tool", ""))),
        ("  command", str(told.get("command", ""))),
        ("  paths", "\n".join(cast("Sequence[str]", told.get("paths", ())))),
        ("  note", "too long to be shown in full" if told.get("cut") else ""),
    ]
    yield facts(rows)
    diff = diff_lines(str(told.get("diff", ""))).split("\n")
    if not any(line.plain for line in diff):
        return
    shown = diff if whole else diff[:DIFF_LINES]
    yield Text("\n").join(Text("    ").append_text(line) for line in shown)
    if len(shown) < len(diff):
        yield Text(f"    … {len(diff) - len(shown)} more lines: holdfast approvals {name}", style="dim")


def offers_always(gate: Approval) -> bool:
    """Tells whether the agent can be told not to ask again."""
    options = cast("Sequence[Mapping[str, object]]", gate.details.get("options", ()))
    return any(each.get("kind") == "allow_always" for each in options)
