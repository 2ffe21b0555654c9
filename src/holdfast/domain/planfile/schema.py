"""The plan file as a JSON Schema, for editors and for models that write plans."""

from __future__ import annotations

from holdfast.domain.permissions import KINDS, PolicyWord, Verdict
from holdfast.domain.plan import GateName, GateOrder, PhaseMode, SupervisorMode
from holdfast.domain.planfile.fields import MAX_TITLE

_SCALAR = ["string", "number", "boolean"]
_TITLE = {"type": _SCALAR, "minLength": 1, "maxLength": MAX_TITLE}
_COMMANDS = {"type": "array", "items": {"type": _SCALAR, "minLength": 1}}
_DURATION = {
    "description": "Seconds, or a text such as 90s, 15m, 1h30m, 2d.",
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?|([0-9]+(\\.[0-9]+)?[smhd])+)$"},
    ],
}
_ATTEMPTS = {"type": "integer", "minimum": 1, "maximum": 100, "description": "Tries in all; the first one counts."}
_RETRYABLE = {"type": "boolean", "description": "false: a failure is final, whatever max_attempts says."}
_BUDGET = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "max_seconds": _DURATION,
        "max_tokens": {"type": "integer", "minimum": 1},
        "max_cost_usd": {"type": "number", "exclusiveMinimum": 0},
    },
}
_SUPERVISOR = {"enum": [str(each) for each in SupervisorMode]}
_WORD = {"enum": [str(each) for each in PolicyWord]}
_RULE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {str(each): {"enum": list(KINDS)} for each in Verdict}
    | {"command": {"type": _SCALAR}, "path": {"type": _SCALAR}},
    "oneOf": [{"required": [str(each)]} for each in Verdict],
}
_PERMISSIONS = {
    "description": "What agents may do unasked: a word, or rules of which the first that fits decides.",
    "anyOf": [_WORD, {"type": "array", "minItems": 1, "items": {"anyOf": [_RULE, _WORD]}}],
}
_TASK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title"],
    "oneOf": [
        {"required": ["instructions"]},
        {"required": ["run"], "not": {"anyOf": [{"required": ["agent"]}, {"required": ["permissions"]}]}},
    ],
    "properties": {
        "title": _TITLE,
        "key": {"type": _SCALAR, "description": "Its name in depends_on; by default made of the title."},
        "instructions": {"type": _SCALAR, "description": "What an agent shall do."},
        "run": {"type": _SCALAR, "description": "A shell command that does it."},
        "agent": {"type": "string"},
        "depends_on": {"type": "array", "items": {"type": _SCALAR}, "uniqueItems": True},
        "max_attempts": _ATTEMPTS,
        "timeout": _DURATION,
        "verify": {**_COMMANDS, "description": "Commands that have to succeed after the work."},
        "retryable": _RETRYABLE,
        "budget": _BUDGET,
        "permissions": _PERMISSIONS,
    },
}
_PHASE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title", "tasks"],
    "properties": {
        "title": _TITLE,
        "mode": {"enum": [str(each) for each in PhaseMode]},
        "pause_after": {"type": "boolean"},
        "when": {"type": ["string", "boolean"], "description": "The phase is skipped where this is false."},
        "tasks": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/task"}},
    },
}


def schema() -> dict[str, object]:
    """Gives the JSON Schema (2020-12) of the format; `parse` checks more than a schema can say."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdfast plan file",
        "type": "object",
        "additionalProperties": False,
        "required": ["title", "phases"],
        "properties": {
            "title": _TITLE,
            "description": {"type": _SCALAR},
            "slug": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 60},
            "base": {"type": _SCALAR, "description": "The branch or commit to start from."},
            "gates": {"type": "array", "items": {"enum": [str(each) for each in GateName]}, "uniqueItems": True},
            "gate_order": {"enum": [str(each) for each in GateOrder]},
            "review": {
                "type": ["boolean", "object"],
                "additionalProperties": False,
                "properties": {"agent": {"type": "string"}, "rounds": {"type": "integer", "minimum": 1, "maximum": 20}},
            },
            "supervisor": {
                "anyOf": [
                    _SUPERVISOR,
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"agent": {"type": "string"}, "after_failure": _SUPERVISOR},
                    },
                ]
            },
            "verify": _COMMANDS,
            "budget": _BUDGET,
            "variables": {
                "type": "object",
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
                "additionalProperties": {"type": _SCALAR},
            },
            "agent": {"type": "string"},
            "permissions": _PERMISSIONS,
            "defaults": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"max_attempts": _ATTEMPTS, "timeout": _DURATION, "retryable": _RETRYABLE},
            },
            "phases": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/phase"}},
        },
        "$defs": {"phase": _PHASE, "task": _TASK},
    }
