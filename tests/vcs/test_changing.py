"""Files that change while they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.vcs.places import Place
from tests.vcs.test_roundtrip import listed

from holdfast.vcs import reading


def test_file_that_changes_while_it_is_read_is_read_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reading.Reader._read
    changes = [b"second", b"third and last"]

    def read_and_write(reader: reading.Reader, source: object, size: int, old: reading.Entry | None) -> bytes | None:
        """A writer comes by after the content was read and before it is looked whether one did."""
        oid = read(reader, source, size, old)
        if changes and Path(f"/proc/self/fd/{source.fileno()}").resolve().name == "log":  # type: ignore[attr-defined]
            path.write_bytes(changes.pop(0))
        return oid

    with place.worktree() as worktree:
        path = worktree.path / "log"
        path.write_bytes(b"first")
        monkeypatch.setattr(reading.Reader, "_read", read_and_write)
        snapshot = worktree.snapshot()
        assert (changes, snapshot.busy) == ([], ())
        assert listed(place, snapshot.tree)[b"log"][1] == b"third and last"
