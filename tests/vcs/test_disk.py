"""A full or read-only disk: one clear error that is nobody's task failure, nothing half done, and it goes on after."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.vcs.places import BRANCH, TIME, Place, make_place, make_repository, write

from holdfast.engine.kept import BlobFolder
from holdfast.errors import InfraError
from holdfast.vcs import GitDiskError, PlainFolder, Vault, Wanted, trees

CHECKPOINT = "refs/holdfast/checkpoints/t/1"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small filesystem")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def small_place(small_disk: Path) -> Place:
    return make_place(small_disk)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as target:
        try:
            while target.write(b"x" * 4096):
                pass
        except OSError:
            return filler
    return filler


def test_full_disk_fails_the_checkpoint_and_leaves_a_clean_vault(small_disk: Path, small_place: Place) -> None:
    vault = small_place.vault
    with small_place.worktree() as worktree:
        write(worktree.path / "noise", os.urandom(300_000))
        tree = worktree.snapshot().tree
        filler = fill(small_disk)
        with pytest.raises(GitDiskError, match="No space left") as caught:
            vault.write_checkpoint(CHECKPOINT, tree, [small_place.base], "m", TIME)
        assert isinstance(caught.value, InfraError)
        assert "free some space" in caught.value.hint
        filler.unlink()
        assert vault.refs("refs/holdfast/checkpoints") == {}
        tree = worktree.snapshot(full=True).tree
        vault.write_checkpoint(CHECKPOINT, tree, [small_place.base], "m", TIME)
        assert vault.git(["cat-file", "-s", f"{tree}:noise"]).strip() == b"300000"
    assert vault.fsck() == []
    assert vault.recover()
    assert list((vault.path / "objects/pack").glob("tmp_*")) == []


def test_full_disk_while_restoring_is_finished_by_the_same_call(small_disk: Path, small_place: Place) -> None:
    with small_place.worktree() as worktree:
        write(worktree.path / "noise", os.urandom(300_000))
        tree = worktree.snapshot().tree
        small_place.vault.write_checkpoint(CHECKPOINT, tree, [small_place.base], "m", TIME)
        worktree.set_tree(small_place.vault.tree_of(small_place.base))
        filler = fill(small_disk)
        with pytest.raises(GitDiskError):
            worktree.set_tree(tree)
        filler.unlink()
        worktree.set_tree(tree)
        assert worktree.snapshot(full=True).tree == tree
        assert sorted(path.name for path in worktree.path.iterdir()) == [".git", "README.md", "noise", "src"]


def test_full_disk_while_ignored_files_are_put_back_is_finished_by_the_same_call(
    small_disk: Path, small_place: Place, tmp_path: Path
) -> None:
    blobs = BlobFolder(tmp_path / "blobs")
    with small_place.worktree() as worktree:
        write(worktree.path / ".gitignore", "*.key\n")
        write(worktree.path / "a.key", os.urandom(300_000))
        kept = {file.path: (file.mode, file.oid) for file in worktree.keep_ignored(["*.key"], blobs).files}
        write(worktree.path / "a.key", "small")
        write(worktree.path / "b.key", "new")
        backup = {file.path: (file.mode, file.oid) for file in worktree.keep_ignored(["*.key"], blobs).files}
        filler = fill(small_disk)
        with pytest.raises(GitDiskError, match="No space left"):
            worktree.set_ignored(Wanted(kept, ["*.key"]), backup, blobs)
        assert (worktree.path / "a.key").read_text() == "small"
        filler.unlink()
        worktree.set_ignored(Wanted(kept, ["*.key"]), backup, blobs)
        assert (worktree.path / "a.key").stat().st_size == 300_000
        assert sorted(path.name for path in worktree.path.iterdir() if path.is_file()) == [
            ".gitignore",
            "README.md",
            "a.key",
        ]


def test_full_disk_while_a_vault_or_worktree_is_made(small_disk: Path, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", {"a": "x" * 500_000})
    filler = fill(small_disk)
    with pytest.raises(GitDiskError):
        Vault.open_or_create(small_disk / "vault.git", repository)
    filler.unlink()
    vault = Vault.open_or_create(small_disk / "vault.git", repository)
    base = vault.fetch(repository, "main")
    vault.create_branch(BRANCH, base)
    place = Place(repository, vault, base, small_disk)
    filler = fill(small_disk)
    with pytest.raises(GitDiskError):
        place.worktree()
    filler.unlink()
    with place.worktree() as worktree:
        assert not worktree.dirty(base)
    vault.close()


def test_read_only_disk_is_named(small_disk: Path, small_place: Place) -> None:
    with small_place.worktree() as worktree:
        tree = worktree.snapshot().tree
    small_place.vault.close()
    vault = Vault.open(small_place.vault.path)
    vault.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        with pytest.raises(GitDiskError, match="Read-only") as caught:
            Vault.open(small_place.vault.path)
        assert "writable" in caught.value.hint
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with Vault.open_or_create(small_place.vault.path, small_place.repository) as vault:
        assert vault.tree_of(small_place.base) == tree


def test_a_full_disk_of_the_users_own_folder_is_named_and_the_merge_is_finished_by_the_same_call(
    small_disk: Path, tmp_path: Path
) -> None:
    notes = small_disk / "notes"
    write(notes / "a.txt", "1")
    with Vault.open_or_create(tmp_path / "vault.git", None) as vault, PlainFolder(vault, notes) as plain:
        base = plain.commit(TIME)
        entry = (trees.FILE, vault.objects.put("blob", os.urandom(2 << 20)))
        tree = trees.apply(vault.objects, bytes.fromhex(vault.tree_of(base)), {b"large": entry})
        head = vault.write_commit(tree.hex(), [base], "made", time=TIME)
        (small_disk / "filler").write_bytes(b"x" * (3 << 20))
        with pytest.raises(GitDiskError, match=rf"the folder {notes}"):
            plain.merge("plan", base, head, TIME)
        assert [path.name for path in notes.iterdir()] == ["a.txt"]
        (small_disk / "filler").unlink()
        assert [each.path for each in plain.merge("plan", base, head, TIME)] == ["large"]
        assert (notes / "large").stat().st_size == 2 << 20
