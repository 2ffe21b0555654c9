"""Unified diffs of texts: right by what `patch` makes of them, and bounded."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from holdfast.domain.textdiff import SMALLEST_LINES, unified


def _numbers(count: int) -> str:
    return "".join(f"{number}\n" for number in range(count))


CASES = {
    "changed": (_numbers(50), _numbers(50).replace("7\n", "seven\n")),
    "grown": ("a\nb\n", "a\nx\nb\ny\n"),
    "emptied": ("a\nb\n", ""),
    "long": (
        "top\n" * 9 + _numbers(3 * SMALLEST_LINES),
        "top\n" * 9 + _numbers(3 * SMALLEST_LINES)[::-1].lstrip("\n") + "\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_patch_makes_the_new_text_of_the_old_one(name: str, tmp_path: Path) -> None:
    old, new = CASES[name]
    (tmp_path / "f").write_text(old)
    line = ["git", "apply", "-p1", "--unsafe-paths", "-"]
    subprocess.run(line, cwd=tmp_path, input=unified("f", old, new), text=True, check=True)
    assert (tmp_path / "f").read_text() == new


def test_a_new_file_and_no_change_are_said_as_such() -> None:
    assert unified("f", None, "a\n") == "--- /dev/null\n+++ b/f\n@@ -0,0 +1,1 @@\n+a\n"
    assert unified("f", "a\n", "a\n") == ""


def test_only_what_differs_is_shown_of_a_long_text() -> None:
    shown = unified("f", _numbers(100_000), _numbers(100_000).replace("\n77777\n", "\nx\n"))
    assert shown.count("\n") == 2 + 1 + 3 + 2 + 3
