"""A folder without git: snapshots of it, and a plan's result put into it, over nothing that a person wrote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.vcs.places import TIME, sh, walk, write

from holdfast.domain.own_git import fresh
from holdfast.errors import IllegalState, NotFound, UserError
from holdfast.vcs import PlainFolder, PlainLimits, Vault, Worktree, survey, trees
from holdfast.vcs.plain import not_in_snapshot
from holdfast.vcs.trees import EXECUTABLE, FILE, SYMLINK
from holdfast.vcs.vault import AUTHOR

FILES = {"a.txt": "1", "old/b": "b", "old/c": "c", ".gitignore": "*.log\n", "big.log": "ignored"}


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[PlainFolder]:
    for name, content in FILES.items():
        write(tmp_path / "notes" / name, content)
    with Vault.open_or_create(tmp_path / "vault.git", None) as vault, PlainFolder(vault, tmp_path / "notes") as folder:
        yield folder


def vault_of(plain: PlainFolder) -> Vault:
    return plain._vault  # pyright: ignore[reportPrivateUsage]


def made(plain: PlainFolder, base: str, changes: dict[str, tuple[int, str] | None], parent: str = "") -> str:
    """Gives a commit of a plan that made `changes` to `base`."""
    vault = vault_of(plain)
    tree = bytes.fromhex(vault.tree_of(parent or base))
    for path, change in changes.items():
        entry = change and (change[0], vault.objects.put("blob", change[1].encode()))
        tree = trees.apply(vault.objects, tree, {path.encode(): entry})
    return vault.write_commit(tree.hex(), [parent or base], "made", time=TIME)


RESULT = {"a.txt": (FILE, "2"), "old": None, "new/n": (EXECUTABLE, "n"), "link": (SYMLINK, "a.txt")}


def test_the_vault_of_a_folder_is_named_by_sha256_and_whole(plain: PlainFolder) -> None:
    base = plain.commit(TIME)
    assert (len(base), vault_of(plain).object_format) == (64, "sha256")
    assert vault_of(plain).git(["ls-tree", "-r", "--name-only", base]).split() == [
        *(b".gitignore", b"a.txt", b"old/b", b"old/c"),
    ]
    assert plain.commit(TIME) == base
    assert vault_of(plain).fsck() == []


def test_a_survey_names_the_folders_that_are_lost(plain: PlainFolder) -> None:
    (plain.path / "new/deep").mkdir(parents=True)
    assert survey(plain.path, PlainLimits()).empty == ("new/deep",)


def test_a_snapshot_follows_the_rules_of_now(plain: PlainFolder) -> None:
    first = plain.commit(TIME)
    write(plain.path / ".gitignore", "*.log\nold\n")
    second = plain.commit(TIME)
    assert vault_of(plain).parents(second) == (first,)
    assert vault_of(plain).git(["ls-tree", "-r", "--name-only", second]).split() == [b".gitignore", b"a.txt"]


def test_nothing_is_written_into_the_folder_by_looking(plain: PlainFolder) -> None:
    before = {path: path.lstat() for path in [plain.path, *plain.path.rglob("*")]}
    plain.commit(TIME)
    after = {path: path.lstat() for path in [plain.path, *plain.path.rglob("*")]}
    assert {path: (s.st_mtime_ns, s.st_ino) for path, s in after.items()} == {
        path: (s.st_mtime_ns, s.st_ino) for path, s in before.items()
    }


def test_a_result_goes_in_and_comes_back(plain: PlainFolder) -> None:
    (plain.path / "a.txt").chmod(0o600)
    before, base = walk(plain.path), plain.commit(TIME)
    head = made(plain, base, {**RESULT, "a.txt": (0o100640, "2")})
    changed = plain.merge("plan", base, head, TIME, dry_run=True)
    assert [f"{each.action} {each.path}" for each in changed] == [
        *("modified a.txt", "added link", "added new/n", "deleted old/b", "deleted old/c"),
    ]
    assert walk(plain.path) == before
    assert plain.merge("plan", base, head, TIME) == changed
    assert plain.merge("plan", base, head, TIME) == ()
    after = walk(plain.path)
    assert set(after) == {b".gitignore", b"a.txt", b"big.log", b"link", b"new/n"}
    assert after[b"new/n"] == ("x", b"n")
    assert modes(plain.path)["a.txt"] == 0o640
    back = plain.take_back("plan", base, TIME)
    assert [each.path for each in back] == [each.path for each in changed]
    assert walk(plain.path) == before
    assert modes(plain.path)["a.txt"] == 0o600
    with pytest.raises(IllegalState, match="nothing of it"):
        plain.take_back("plan", base, TIME)
    plain.merge("plan", base, head, TIME)
    assert walk(plain.path) == after
    assert vault_of(plain).fsck() == []


def modes(folder: Path) -> dict[str, int]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in files}


def test_all_permission_bits_go_the_whole_way(plain: PlainFolder, tmp_path: Path) -> None:
    (plain.path / "a.txt").chmod(0o600)
    (plain.path / "old/b").chmod(0o775)
    base, vault = plain.commit(TIME), vault_of(plain)
    vault.create_branch("w", base)
    with Worktree.ensure(vault, tmp_path / "work", "w", base) as worktree:
        begun = modes(worktree.path)
        assert (begun["a.txt"], begun["old/b"]) == (0o600, 0o775)
        (worktree.path / "old/c").chmod(0o440)
        (worktree.path / "a.txt").write_text("1\n2\n")
        theirs = vault.write_commit(worktree.snapshot().tree, [base], "theirs", time=TIME)
        ours = made(plain, base, {"old/b": (0o100751, "b"), "new": (0o100604, "n")})
        both = vault.merge(ours, theirs, "both", AUTHOR, TIME).commit
        assert both is not None
        worktree.set_tree(vault.tree_of(both))
        wanted = {"a.txt": 0o600, "old/b": 0o751, "old/c": 0o440, "new": 0o604}
        assert modes(worktree.path) == {**wanted, ".gitignore": begun[".gitignore"]}
        worktree.set_own_git(fresh("w", both))
        assert sh("git", "status", "--porcelain", cwd=worktree.path) == ""
        worktree.set_tree(vault.tree_of(base))
        assert modes(worktree.path) == begun
    assert [each.path for each in plain.merge("plan", base, both, TIME)] == ["a.txt", "new", "old/b", "old/c"]
    assert {name: mode for name, mode in modes(plain.path).items() if name in wanted} == wanted
    assert vault.fsck() == []


def test_a_plan_that_goes_on_is_merged_again_and_taken_back_whole(plain: PlainFolder) -> None:
    before, base = walk(plain.path), plain.commit(TIME)
    first = made(plain, base, {"a.txt": (FILE, "2"), "one": (FILE, "1")})
    second = made(plain, base, {"a.txt": (FILE, "3"), "one": None, "two": (FILE, "2")}, parent=first)
    plain.merge("plan", base, first, TIME)
    assert [each.path for each in plain.merge("plan", base, second, TIME)] == ["a.txt", "one", "two"]
    assert not (plain.path / "one").exists()
    plain.take_back("plan", base, TIME)
    assert walk(plain.path) == before


BY_HAND: list[tuple[str, Callable[[Path], object]]] = [
    ("a.txt", lambda root: write(root / "a.txt", "mine")),
    ("a.txt", lambda root: (root / "a.txt").unlink()),
    ("a.txt", lambda root: (root / "a.txt").chmod(0o755)),
    ("old/b", lambda root: write(root / "old/b", "mine")),
    ("old/b", lambda root: (shutil.rmtree(root / "old"), write(root / "old", "mine"))),
    ("link", lambda root: write(root / "link/x", "mine")),
    ("link", lambda root: os.mkfifo(root / "link")),
    ("new/n", lambda root: write(root / "new", "mine")),
    ("new/n", lambda root: (root / "new").symlink_to("/tmp")),
]


@pytest.mark.parametrize(("name", "deed"), BY_HAND)
def test_what_was_changed_by_hand_is_named_and_nothing_is_written(
    plain: PlainFolder, name: str, deed: Callable[[Path], object]
) -> None:
    base = plain.commit(TIME)
    head = made(plain, base, RESULT)
    deed(plain.path)
    before = walk(plain.path)
    with pytest.raises(IllegalState, match="by hand") as caught:
        plain.merge("plan", base, head, TIME)
    assert name in caught.value.message
    assert caught.value.code == "folder_changed"
    assert walk(plain.path) == before


def test_an_ignored_file_in_the_way_is_the_users(plain: PlainFolder) -> None:
    base = plain.commit(TIME)
    head = made(plain, base, {"big.log": (FILE, "the plan's")})
    with pytest.raises(IllegalState, match=r"big\.log"):
        plain.merge("plan", base, head, TIME)
    assert (plain.path / "big.log").read_text() == "ignored"


def test_the_same_change_by_hand_and_changes_elsewhere_agree(plain: PlainFolder) -> None:
    base = plain.commit(TIME)
    head = made(plain, base, RESULT)
    write(plain.path / "a.txt", "2")
    write(plain.path / "mine", "mine")
    shutil.rmtree(plain.path / "old")
    assert [each.path for each in plain.merge("plan", base, head, TIME)] == ["link", "new/n"]
    assert (plain.path / "mine").read_text() == "mine"


def test_a_folder_becomes_a_file_and_again_a_folder(plain: PlainFolder) -> None:
    before, base = walk(plain.path), plain.commit(TIME)
    head = made(plain, base, {"old": (FILE, "a file now")})
    plain.merge("plan", base, head, TIME)
    assert (plain.path / "old").read_text() == "a file now"
    assert plain.merge("plan", base, head, TIME) == ()
    plain.take_back("plan", base, TIME)
    assert walk(plain.path) == before


def test_what_is_written_at_the_last_moment_is_moved_aside(plain: PlainFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    base = plain.commit(TIME)
    head = made(plain, base, RESULT)
    apply = plain._apply  # pyright: ignore[reportPrivateUsage]

    def raced(changes: list[trees.Change]) -> None:
        write(plain.path / "a.txt", "mine, just now")
        apply(changes)

    monkeypatch.setattr(plain, "_apply", raced)
    plain.merge("plan", base, head, TIME)
    assert (plain.path / "a.txt").read_text() == "2"
    aside = [path for path in (vault_of(plain).path / "holdfast/folder/aside").rglob("*") if path.is_file()]
    assert [path.read_text() for path in aside] == ["mine, just now"]


def test_limits_and_what_is_left_out_are_told(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for name in ("a", "b", "large", "lib/code"):
        write(root / name, name * (200 if name == "large" else 1))
    write(root / "lib/.git/HEAD", "ref: refs/heads/main\n")
    for name in ("objects", "refs"):
        (root / "lib/.git" / name).mkdir()
    limits = PlainLimits(max_file_bytes=100)
    found = survey(root, limits)
    assert (found.files, found.nested) == (3, ("lib",))
    with pytest.raises(UserError, match="3 files") as caught:
        survey(root, PlainLimits(max_files=2, max_file_bytes=100))
    assert caught.value.code == "folder_too_large"
    with Vault.open_or_create(tmp_path / "vault.git", None) as vault:
        with PlainFolder(vault, root, limits) as plain:
            commit = plain.commit(TIME)
        assert not_in_snapshot(vault) == ("large",)
        assert vault.git(["ls-tree", "-r", "--name-only", commit]).split() == [b"a", b"b", b"lib/code"]
        with pytest.raises(NotFound, match="is not there"):
            PlainFolder(vault, tmp_path / "nowhere")


def test_one_process_at_a_time_has_the_folder(plain: PlainFolder) -> None:
    with pytest.raises(IllegalState, match="in use"):
        PlainFolder(vault_of(plain), plain.path, PlainLimits(lock_seconds=0.05))
