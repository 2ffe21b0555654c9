"""The demonstration shows what it promises."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Program


def test_the_demo_kills_its_worker_goes_on_and_proves_that_nothing_happened_twice(
    program: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "shown"
    result = program("demo", "--keep", "--folder", str(folder), cwd=tmp_path)
    assert result.code == 0, result.out + result.err
    for words in ("kill -9", "still at work without it", "holdfast resume", "exactly once", "sound: no problem found"):
        assert words in result.out
    assert sorted((folder / "effects.log").read_text().split()) == sorted(
        ["baseline", "changelog", "discounts", "tax", "receipts", "finish"]
    )
    assert not program.data.exists(), "the demo has a data folder of its own"
    assert program("demo", "--folder", str(folder)).code == 2, "a folder in use is refused"
