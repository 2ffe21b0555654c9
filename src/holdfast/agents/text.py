"""Text from agents and commands, made safe to show to people."""

from __future__ import annotations

import re

_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, modes
    r"|\x1b[\]PX^_].*?(?:\x1b\\|\x07|\x9c|\Z)"  # OSC, DCS, SOS, PM, APC: titles, links, clipboard
    r"|\x9b[0-?]*[ -/]*[@-~]|[\x9d\x90\x98\x9e\x9f].*?(?:\x1b\\|\x07|\x9c|\Z)"  # the same, opened by one C1 character
    r"|\x1b[ -/]*[0-~]?",  # any other escape
    re.DOTALL,
)
# What is left: control characters but tab and newline, and the marks that make text read otherwise than it is.
_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def strip_control(text: str) -> str:
    """Gives the text without escape sequences and control characters; a carriage return ends a line."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CHARACTERS.sub("", _SEQUENCES.sub("", text))
