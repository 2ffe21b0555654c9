"""Reading a journal: a torn end is tolerated, damage before it is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents import complete, read
from holdfast.agents.journal import Reader, last_output
from holdfast.agents.shim.ledger import Ledger
from holdfast.errors import Corruption


def line(n: int, kind: str = "stdout", **fields: object) -> bytes:
    return json.dumps({"n": n, "at": 1.0, "kind": kind, **fields}).encode() + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def numbers(path: Path, after: int = 0) -> list[int]:
    return [record.n for record in read(path, after)]


def test_a_journal_that_is_not_there_is_empty(path: Path) -> None:
    assert numbers(path) == []
    assert complete(path) is None
    assert last_output(path, 10) == ""


@pytest.mark.parametrize(
    "torn", [b"", b'{"n":4,"at":1', b"\0\0\0\0", b"\0\0\n\0\n", b"garbage\n", b'{"n":4}\n', b"[1]\n"]
)
def test_a_torn_end_is_not_there(path: Path, torn: bytes) -> None:
    path.write_bytes(line(1) + line(2) + line(3) + torn)
    assert numbers(path) == [1, 2, 3]
    assert numbers(path, 2) == [3]
    assert numbers(path, 3) == []


def test_every_cut_of_a_journal_gives_its_whole_records(path: Path) -> None:
    whole = b"".join(line(n, text="ü" * n) for n in range(1, 6))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert numbers(path) == list(range(1, whole[:length].count(b"\n") + 1))


@pytest.mark.parametrize("damage", [b"garbage\n", b"\0" * 50 + b"\n", line(7)])
def test_damage_before_a_good_record_is_corruption(path: Path, damage: bytes) -> None:
    path.write_bytes(line(1) + line(2) + damage + line(4))
    with pytest.raises(Corruption, match="record 3"):
        numbers(path)


def test_the_exit_record_is_found_at_the_end_only(path: Path) -> None:
    path.write_bytes(line(1) + line(2, "exit", exit_code=0)[:-1])
    assert complete(path) is None
    path.write_bytes(line(1, text="x" * 3_000_000) + line(2, "exit", exit_code=0))
    found = complete(path)
    assert found is not None
    assert (found.n, found.fields["exit_code"]) == (2, 0)


def test_a_reader_goes_on_where_it_stopped(path: Path) -> None:
    reader = Reader(path)
    assert reader.read(10) == []
    path.write_bytes(line(1) + line(2)[:10])
    assert [r.n for r in reader.read(10)] == [1]
    path.write_bytes(line(1) + line(2) + line(3))
    assert [r.n for r in reader.read(1)] == [2]
    assert [r.n for r in reader.read(10)] == [3]


@given(chunks=st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=200)), max_size=30))
def test_what_the_shim_writes_is_read_back_byte_for_byte(tmp_path_factory, chunks: list[tuple[str, bytes]]) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    ledger = Ledger(str(path), 1 << 20)
    for kind, chunk in chunks:
        ledger.stream(kind, chunk)
    ledger.seal(reason="exit")
    records = list(read(path))
    assert [record.n for record in records] == list(range(1, len(records) + 1))
    for kind in ("stdout", "stderr"):
        expected = b"".join(chunk for k, chunk in chunks if k == kind)
        assert b"".join(record.content for record in records if record.kind == kind) == expected


@given(chunks=st.lists(st.binary(max_size=4000), max_size=60), limit=st.integers(500, 60_000))
def test_a_bounded_journal_counts_every_byte(tmp_path_factory, chunks: list[bytes], limit: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    ledger = Ledger(str(path), limit)
    for chunk in chunks:
        ledger.stream("stdout", chunk)
    ledger.seal(reason="exit")
    records = list(read(path))
    kept = b"".join(record.content for record in records if record.kind == "stdout")
    end = records[-1].fields["dropped_bytes"]
    assert isinstance(end, int)
    assert len(kept) + end == sum(map(len, chunks))
    assert (end > 0) <= ([r.kind for r in records].count("truncated") == 1)


def test_a_journal_is_never_begun_twice(path: Path) -> None:
    Ledger(str(path), 1000)
    with pytest.raises(FileExistsError):
        Ledger(str(path), 1000)
    assert os.stat(path).st_size == 0
