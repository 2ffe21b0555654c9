"""A new worktree shares with another one the files that are known to be the same, and no others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.vcs.places import BRANCH, Place, commit_all, make_repository, open_place, sh, walk, write

from holdfast.vcs import Worktree, reflink, statcache

FILES = {
    "README.md": "hello\n",
    "src/app.py": "print(1)\n",
    "src/deep/er/edited": "as it was\n",
    "src/deep/changing": "before\n",
    "gone": "deleted by the agent\n",
    "empty": "",
    "run.sh": "#!/bin/sh\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Place:
    """A repository with every sort of file, its vault, and a worktree `w` whose files are all known."""
    repository = make_repository(tmp_path / "repository", FILES)
    (repository / "run.sh").chmod(0o755)
    (repository / "link").symlink_to("src/app.py")
    commit_all(repository, "every sort")
    place = open_place(tmp_path, repository)
    known_whole(place, len(FILES))
    return place


def known_whole(place: Place, files: int) -> None:
    """Returns when all files of the worktree `w` have settled, so that its file cache has them."""
    cache = place.vault.path / "holdfast/worktrees/w/files"
    with place.worktree(watch=False) as worktree:
        while len(statcache.load(cache)) < files:
            worktree.snapshot(full=True)


def copying(taken: list[str], meanwhile: Path | None = None) -> object:
    """Stands for the filesystem: copies instead of sharing, and lets an agent write to one file in that moment."""

    def share(target: int, origin: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{origin}"))
        taken.append(place.name)
        if place == meanwhile:
            place.write_text("written meanwhile\n")
        while os.sendfile(target, origin, None, 1 << 20):
            pass

    return share


def test_only_what_is_known_to_be_the_same_is_taken(source: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    root = source.folder / "worktrees/w"
    write(root / "src/deep/er/edited", "by an agent!\n")
    (root / "gone").unlink()
    (root / "README.md").chmod(0o600)
    write(root / "ignored", "not the checkpoint's\n")
    taken: list[str] = []
    monkeypatch.setattr(reflink, "LARGE_BYTES", 0)
    monkeypatch.setattr(reflink, "share_blocks", copying(taken, meanwhile=root / "src/deep/changing"))
    with source.worktree("fork") as fork:
        assert walk(fork.path) == walk(source.repository)
        assert (root / "src/deep/changing").read_text() == "written meanwhile\n"
        mine = [name for name in taken if not name.startswith(".clone-")]
        assert sorted(mine) == ["app.py", "changing", "empty", "run.sh"]
        assert sh("git", "status", "--porcelain", cwd=fork.path) == ""
        assert not fork.dirty(source.base)


def test_where_blocks_cannot_be_shared_files_are_written(source: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(target: int, origin: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(reflink, "share_blocks", refuse)
    with source.worktree("fork") as fork:
        assert walk(fork.path) == walk(source.repository)
        assert [path.name for path in fork.path.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.campaign
@pytest.mark.parametrize("mounted", ["xfs", "btrfs"], indirect=True)
def test_a_filesystem_with_reflinks_stores_a_file_once(mounted: Path) -> None:
    repository = make_repository(mounted / "repository", {**FILES, "large": "0123456789abcdef" * (2 << 20)})
    (repository / "run.sh").chmod(0o755)
    (repository / "link").symlink_to("src/app.py")
    commit_all(repository, "every sort")
    place = open_place(mounted, repository)
    known_whole(place, len(FILES) + 1)
    root = place.folder / "worktrees/w"
    for path in ("src/deep/er/edited", "untracked/deep/new"):
        write(root / path, "by an agent!\n")
    (root / "gone").unlink()
    (root / "README.md").chmod(0o600)
    (root / "second name").hardlink_to(root / "src/app.py")
    (root / "src/deep/er").chmod(0o555)
    os.sync()
    before = os.statvfs(mounted)
    fork = Worktree.ensure(place.vault, place.folder / "worktrees/fork", BRANCH, place.base)
    os.sync()
    after = os.statvfs(mounted)
    assert (before.f_bfree - after.f_bfree) * after.f_frsize < 8 << 20
    assert walk(fork.path) == walk(repository)
    assert not fork.dirty(place.base)
    assert sh("git", "status", "--porcelain", cwd=fork.path) == ""
    assert {path.stat().st_mode & 0o777 for path in fork.path.rglob("*.md")} == {0o644}
    write(fork.path / "large", "its own now")
    assert (root / "large").stat().st_size == 32 << 20
    fork.remove()
    assert not (place.folder / "worktrees/fork").exists()
