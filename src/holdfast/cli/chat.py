"""How conversations look to people. Nothing here is printed by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from holdfast.cli.render import block, diff_line_style, safe, short, table, when
from holdfast.domain.conversation import MessageRole

if TYPE_CHECKING:
    from rich.table import Table

    from holdfast.domain.conversation import Head, Message, Snapshot

FOLDED_LINES = 8
_SPEAKERS = {
    MessageRole.USER: ("you", "bold cyan"),
    MessageRole.ASSISTANT: ("agent", "bold green"),
    MessageRole.SYSTEM: ("system", "bold yellow"),
    MessageRole.TOOL: ("tool", "bold"),
}


def chat(messages: Sequence[Message], *, full: bool = False) -> Text:
    """Gives messages as a dialogue, oldest first; the result of a tool is folded under its call unless `full`."""
    shown = Text()
    speaker = None
    for message in messages:
        said = (message.role, message.thought)
        if message.role is MessageRole.TOOL or message.tool_calls:
            _add_tool(shown, message, full=full)
            speaker = None
            continue
        if said != speaker:
            name, style = _SPEAKERS[message.role]
            name = f"{name}, thinking" if message.thought else name
            shown.append("\n" if shown else "").append(name, style=style)
            shown.append(f"  {when(message.at)}\n", style="dim")
        speaker = said
        style = "red" if message.is_error else "dim italic" if message.thought else ""
        shown.append(f"{block(message.content).rstrip()}\n", style=style)
    shown.rstrip()
    return shown


def _add_tool(shown: Text, message: Message, *, full: bool) -> None:
    for call in message.tool_calls:
        shown.append("\n" if shown else "").append("⚙ ", style="cyan").append(safe(call.get("name", "")), style="bold")
        shown.append(f"  {safe(call.get('kind', ''))}  {when(message.at)}\n", style="dim")
    if message.role is not MessageRole.TOOL:
        return
    lines = block(message.tool_result or "").rstrip().splitlines()
    kept = lines if full else lines[:FOLDED_LINES]
    in_diff = False
    for line, following in zip(kept, [*lines[1:], ""], strict=False):
        in_diff = in_diff or (line.startswith("--- ") and following.startswith("+++ "))
        style = diff_line_style(line) if in_diff else "red" if message.is_error else ""
        shown.append(f"  {line}\n", style=style)
    more = f"{len(lines) - len(kept)} more lines" if len(kept) < len(lines) else ""
    if message.result_blob is not None and not full:
        more = "more"
    if more:
        shown.append(f"  … {more}: --full\n", style="dim")


def messages_table(messages: Sequence[Message]) -> Table:
    rows = [
        [
            str(message.position + 1),
            when(message.at),
            "thought" if message.thought else str(message.role),
            safe(_summary(message))[:100],
            "failed" if message.is_error else "",
            str(message.token_count or ""),
            f"${message.cost_usd:.4f}" if message.cost_usd else "",
        ]
        for message in messages
    ]
    return table(["#", "at", "role", "what", "", "tokens", "cost"], rows, right=("#", "tokens", "cost"))


def _summary(message: Message) -> str:
    called = ", ".join(str(call.get("name", "")) for call in message.tool_calls)
    return message.content or called or message.tool_result or ""


def snapshots_table(snapshots: Sequence[Snapshot]) -> Table:
    rows = [
        [
            when(each.created_at),
            str(each.kind),
            each.name,
            str(each.message_count),
            str(each.token_count or ""),
            f"${each.cost_usd:.4f}" if each.cost_usd else "",
            short(each.message_id),
        ]
        for each in snapshots
    ]
    headings = ["made", "kind", "name", "messages", "tokens", "cost", "head"]
    return table(headings, rows, right=("messages", "tokens", "cost"))


def head_line(head: Head) -> str:
    """Gives the size of a conversation in a few words; nothing where nothing was said."""
    if not head.message_count:
        return ""
    tokens = f", {head.token_count:,} tokens" if head.token_count else ""
    cost = f", ${head.cost_usd:.2f}" if head.cost_usd else ""
    return f"{head.message_count:,}{tokens}{cost}"
