"""Turns what an agent tells of its turn into the domain's updates, each checked against ACP's schema first."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from acp import schema
from pydantic import BaseModel, ValidationError

from holdfast.agents.acp.wire import kept
from holdfast.domain.conversation import (
    FileDiff,
    Heard,
    Noted,
    PermissionWanted,
    Planned,
    Spoke,
    TokenUsage,
    ToolUsed,
    Update,
    UsageTold,
)

_MODELS: dict[str, type[BaseModel]] = {
    kind: model
    for model in get_args(schema.SessionNotification.model_fields["update"].annotation)
    for kind in get_args(model.model_fields["session_update"].annotation)
}


def translate(heard: Heard, update: Mapping[str, Any]) -> Update | None:
    """Gives what a `session/update` tells, None where it tells nothing new (the person's own words)."""
    kind = str(update.get("sessionUpdate"))
    model = _MODELS.get(kind)
    if model is None:
        return Noted(heard, kind, kept(update))
    try:
        told = model.model_validate(update)
    except ValidationError as error:
        return Noted(heard, "invalid", {"update": kept(update), "error": _first(error)})
    match told:
        case schema.AgentMessageChunk() | schema.AgentThoughtChunk():
            return _spoken(heard, told, update)
        case schema.UserMessageChunk():
            return None
        case schema.ToolCallStart() | schema.ToolCallProgress():
            return tool_used(heard, told)
        case schema.AgentPlanUpdate():
            return Planned(heard, _entries(told.entries))
        case schema.AgentPlanContentUpdate(plan=schema.PlanUpdateItems() as items):
            return Planned(heard, _entries(items.entries))
        case schema.UsageUpdate():
            cost = told.cost.amount if told.cost is not None and told.cost.currency.upper() == "USD" else None
            return UsageTold(heard, TokenUsage(cost_usd=cost), told.size, told.used)
        case _:
            return Noted(heard, kind, kept(update))


def permission_wanted(heard: Heard, request: str, asked: schema.RequestPermissionRequest) -> PermissionWanted:
    """Gives the question that a `session/request_permission` asks."""
    options = tuple((option.option_id, option.name, option.kind) for option in asked.options)
    return PermissionWanted(heard, request, tool_used(heard, asked.tool_call), options)


def tool_used(heard: Heard, call: schema.ToolCall | schema.ToolCallUpdate) -> ToolUsed:
    """Gives a tool call as the agent tells it; what it does not tell stays None."""
    content = call.content
    return ToolUsed(
        heard,
        call.tool_call_id,
        status=call.status,
        title=call.title,
        kind=call.kind,
        input=_input(call.raw_input),
        output=_output(content, call.raw_output),
        diffs=_diffs(content),
        paths=None if call.locations is None else [location.path for location in call.locations],
    )


def terminals_of(update: Mapping[str, Any]) -> list[str]:
    """Gives the ids of the terminals that a tool call shows."""
    content = update.get("content")
    items = content if isinstance(content, list) else []
    return [str(item.get("terminalId")) for item in items if isinstance(item, dict) and item.get("type") == "terminal"]


def spent(update: Mapping[str, Any]) -> TokenUsage | None:
    """Gives the tokens of one answer of the model, as Qwen Code tells them beside an empty piece of speech."""
    meta = update.get("_meta")
    told = meta.get("usage") if isinstance(meta, dict) else None
    if update.get("sessionUpdate") != "agent_message_chunk" or not isinstance(told, dict):
        return None
    try:
        return turn_usage(schema.Usage.model_validate(told))
    except ValidationError:
        return None


def turn_usage(usage: schema.Usage | None) -> TokenUsage | None:
    """Gives the tokens that the answer to a prompt tells; what was read from and written to a cache is `cached`."""
    if usage is None:
        return None
    return TokenUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=(usage.cached_read_tokens or 0) + (usage.cached_write_tokens or 0),
        thought_tokens=usage.thought_tokens or 0,
    )


def _spoken(heard: Heard, told: schema.ContentChunk, update: Mapping[str, Any]) -> Update:
    thought = isinstance(told, schema.AgentThoughtChunk)
    if isinstance(told.content, schema.TextContentBlock):
        return Spoke(heard, told.content.text, thought, told.message_id)
    content = {key: value for key, value in update["content"].items() if key != "data"}
    return Noted(heard, "content", kept({**content, "data_characters": len(str(update["content"].get("data", "")))}))


def _entries(entries: Iterable[schema.PlanEntry]) -> tuple[tuple[str, str], ...]:
    return tuple((entry.content, entry.status) for entry in entries)


def _input(value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    return kept(value) if isinstance(value, dict) else {"value": kept(value)}


def _output(content: Iterable[object] | None, raw: Any) -> str | None:
    texts = [
        item.content.text
        for item in content or ()
        if isinstance(item, schema.ContentToolCallContent) and isinstance(item.content, schema.TextContentBlock)
    ]
    if texts:
        return "\n".join(texts)
    if raw is None:
        return None
    return raw if isinstance(raw, str) else json.dumps(kept(raw), ensure_ascii=False)


def _diffs(content: Iterable[object] | None) -> list[FileDiff] | None:
    if content is None:
        return None
    edits = [item for item in content if isinstance(item, schema.FileEditToolCallContent)]
    return [FileDiff(edit.path, edit.old_text, edit.new_text) for edit in edits] or None


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
