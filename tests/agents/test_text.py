"""Text of agents is data: nothing in it may act on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents import strip_control


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("plain ü 漢\n\ttab", "plain ü 漢\n\ttab"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
        ("\x1b]52;c;aGVsbG8=", ""),
        ("\x1bPq#0\x1b\\after", "after"),
        ("\x9b31mred", "red"),
        ("50%\r100%\r\n", "50%\n100%\n"),
        ("a\x00b\x08c\x7f", "abc"),
        ("\x1b(B\x1b=x\x1b", "x"),
        ("user\u202egnp.exe", "usergnp.exe"),
    ],
)
def test_sequences_are_gone_and_text_stays(raw: str, clean: str) -> None:
    assert strip_control(raw) == clean


@given(st.text(st.characters(codec="utf-8")))
def test_no_control_character_survives(text: str) -> None:
    assert not [c for c in strip_control(text) if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0]
