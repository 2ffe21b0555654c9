"""Content-addressed files: whole or absent, and never trusted unread."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.store.world import World, new_checkpoint

from holdfast.errors import Corruption, InfraError, NotFound
from holdfast.store import blobs, checkpoints

ROOT = Path(__file__).parents[2]
CONTENT = b"some bytes \x00\xff" * 10_000


def test_a_blob_comes_back_byte_for_byte_under_its_checksum(tmp_path: Path) -> None:
    for content in (b"", b"x", CONTENT, os.urandom(3 << 20)):
        blob = blobs.write(tmp_path, content)
        assert (blob.digest, blob.size) == (hashlib.sha256(content).hexdigest(), len(content))
        assert blobs.read(tmp_path, blob.digest) == content


def test_the_same_content_is_one_small_file(tmp_path: Path) -> None:
    first = blobs.write(tmp_path, CONTENT)
    assert blobs.write(tmp_path, io.BytesIO(CONTENT)) == first
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [blobs.path_of(tmp_path, first.digest)]
    assert first.stored_size < first.size / 10


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other", "missing"])
def test_a_damaged_blob_is_named_and_not_used(tmp_path: Path, damage: str) -> None:
    blob = blobs.write(tmp_path, CONTENT)
    other = blobs.write(tmp_path, b"another content")
    path = blobs.path_of(tmp_path, blob.digest)
    stored = path.read_bytes()
    match damage:
        case "flip":
            path.write_bytes(stored[:20] + bytes([stored[20] ^ 1]) + stored[21:])
        case "cut":
            path.write_bytes(stored[:-10])
        case "empty":
            path.write_bytes(b"")
        case "other":
            path.write_bytes(blobs.path_of(tmp_path, other.digest).read_bytes())
        case _:
            path.unlink()
    with pytest.raises(Corruption, match=blob.digest):
        blobs.read(tmp_path, blob.digest)


@pytest.mark.parametrize("where", ["before_rename", "after_rename"])
def test_a_kill_while_writing_leaves_no_half_blob(tmp_path: Path, where: str) -> None:
    code = "import sys; from pathlib import Path; from holdfast.store import blobs\n"
    code += "blobs.write(Path(sys.argv[1]), b'precious')"
    environment = os.environ | {"HOLDFAST_FAILPOINT": f"store.blob.{where}"}
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, env=environment, timeout=240)
    assert killed.returncode == -signal.SIGKILL
    digest = hashlib.sha256(b"precious").hexdigest()
    assert blobs.path_of(tmp_path, digest).exists() == (where == "after_rename")
    assert blobs.write(tmp_path, b"precious").digest == digest
    assert blobs.read(tmp_path, digest) == b"precious"


def test_a_name_that_is_no_checksum_reaches_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal"):
        blobs.read(tmp_path, "../../etc/passwd")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError) as caught:
        blobs.write(tmp_path / "file", b"x")
    assert caught.value.code == "disk_failed"


def test_a_blob_is_noted_once(world: World, tmp_path: Path) -> None:
    blob = blobs.write(tmp_path, CONTENT)
    with world.database.transaction() as connection:
        blobs.record(connection, blob)
        blobs.record(connection, blob)
        assert blobs.get(connection, blob.digest) == blob
        with pytest.raises(NotFound):
            blobs.get(connection, "0" * 64)


def test_a_damaged_blob_is_mended_by_who_writes_the_content_again(tmp_path: Path) -> None:
    blob = blobs.write(tmp_path, CONTENT)
    path = blobs.path_of(tmp_path, blob.digest)
    path.write_bytes(b"rotten")
    assert blobs.write(tmp_path, io.BytesIO(CONTENT)) == blob
    assert blobs.read(tmp_path, blob.digest) == CONTENT


def test_a_content_is_taken_from_where_its_file_stands(tmp_path: Path) -> None:
    source = io.BytesIO(b"head" + CONTENT)
    for _ in range(2):
        source.seek(4)
        assert blobs.write(tmp_path, source).digest == hashlib.sha256(CONTENT).hexdigest()


def test_a_blob_that_the_system_does_not_give_is_no_corruption(tmp_path: Path) -> None:
    blob = blobs.write(tmp_path, CONTENT)
    path = blobs.path_of(tmp_path, blob.digest)
    path.unlink()
    path.mkdir()
    with pytest.raises(InfraError, match=blob.digest[2:]):
        blobs.verify(tmp_path, blob.digest)


def test_kept_files_come_back_with_any_name_and_mode(world: World, tmp_path: Path) -> None:
    blob = blobs.write(tmp_path, CONTENT)
    names = ("plain", "sp ace", "ünï", "back\\slash", "back\\x41", "bad\udcff\udc80utf", "\\", "new\nline")
    files = tuple(blobs.KeptFile(name, 0o600 + number, blob) for number, name in enumerate(sorted(names)))
    with world.database.transaction() as connection:
        made = checkpoints.add(connection, new_checkpoint(world.task, 1), actor="tester")
        blobs.attach(connection, made.id, files)
        blobs.attach(connection, made.id, files)
    with world.database.read() as connection:
        assert sorted(blobs.attached(connection, made.id), key=lambda file: file.path) == list(files)
