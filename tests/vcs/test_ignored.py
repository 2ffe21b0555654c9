"""Ignored files that a project wants kept: found, put back exactly, and nothing lost on the way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.vcs.places import Place, make_place, walk, write

from holdfast.engine.kept import BlobFolder
from holdfast.errors import Corruption
from holdfast.vcs import Limits, Wanted, Worktree

PATTERNS = ("*.key", "cache")
RULES = {".gitignore": "*.key\ncache\n", "README.md": "hello\n"}
Entries = dict[str, tuple[int, bytes]]
Exact = dict[bytes, tuple[str, int, bytes]]


@pytest.fixture
def keyed(tmp_path: Path) -> Place:
    return make_place(tmp_path, RULES)


def blobs(place: Place) -> BlobFolder:
    return BlobFolder(place.folder / "blobs")


def keep(place: Place, worktree: Worktree, patterns: tuple[str, ...] = PATTERNS) -> Entries:
    return {file.path: (file.mode, file.oid) for file in worktree.keep_ignored(patterns, blobs(place)).files}


def exact(root: Path) -> Exact:
    """Gives kind, all permission bits and content of every file; links have no bits of their own."""
    found = walk(root)
    modes = {path: os.lstat(os.fsencode(root) + b"/" + path).st_mode & 0o777 for path in found}
    return {path: (kind, 0 if kind == "l" else modes[path], content) for path, (kind, content) in found.items()}


def aside(place: Place) -> dict[str, bytes]:
    """Gives what was moved aside, by name."""
    return {path.name: path.read_bytes() for path in place.folder.rglob("aside/**/*") if path.is_file()}


def test_what_matches_is_found_with_its_mode_and_links_as_links(tmp_path: Path) -> None:
    place = make_place(tmp_path, {".gitignore": ".env*\nout/\n/link\n", "a/b": "1"})
    with place.worktree() as worktree:
        for name in (".env", "a/.env.local", "out/report.html", "out/x/deep.html", "free.html"):
            write(worktree.path / name, name)
        (worktree.path / ".env").chmod(0o600)
        (worktree.path / "link").symlink_to("/etc/passwd")
        (worktree.path / ".env.d").symlink_to("a", target_is_directory=True)
        found = {file.path: oct(file.mode) for file in worktree.keep_ignored([".env*"], blobs(place)).files}
        assert found == {".env": "0o100600", ".env.d": "0o120000", "a/.env.local": "0o100644"}
        assert set(keep(place, worktree, ("out/**/*.html",))) == {"out/report.html", "out/x/deep.html"}
        assert (
            set(keep(place, worktree, ("out/x/**",))) == set(keep(place, worktree, ("out/x/",))) == {"out/x/deep.html"}
        )
        assert set(keep(place, worktree, ("*.html",))) == {"out/report.html", "out/x/deep.html"}
        (link,) = worktree.keep_ignored(["link"], blobs(place)).files
        place_of_link = tmp_path / "read"
        with place_of_link.open("wb") as target:
            blobs(place).copy_blob(link.oid, target)
        assert place_of_link.read_bytes() == b"/etc/passwd"


def test_a_tracked_file_is_the_tree_s_and_not_kept_twice(keyed: Place) -> None:
    with keyed.worktree() as worktree:
        write(worktree.path / ".gitignore", "cache\n")
        write(worktree.path / "in.key", "in the tree")
        worktree.snapshot()
        write(worktree.path / ".gitignore", RULES[".gitignore"])
        worktree.snapshot()
        write(worktree.path / "out.key", "not in the tree")
        assert set(keep(keyed, worktree)) == {"out.key"}


def test_a_file_that_did_not_change_is_not_read_again(keyed: Place) -> None:
    with keyed.worktree() as worktree:
        write(worktree.path / "a.key", "precious")
        os.utime(worktree.path / "a.key", ns=(1, 1))
        settled = worktree.path / "a.key"
        status = settled.stat()
        while worktree.path.joinpath("a.key").stat().st_ctime_ns + 50_000_000 > _now(keyed.folder):
            pass
        first = keep(keyed, worktree)
        counting = _Counting(keyed.folder / "blobs")
        assert {file.path: (file.mode, file.oid) for file in worktree.keep_ignored(PATTERNS, counting).files} == first
        assert counting.puts == 0
        settled.write_text("replaced")
        os.utime(settled, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert keep(keyed, worktree) != first
        shutil.rmtree(keyed.folder / "blobs")
        worktree.keep_ignored(PATTERNS, counting)
        assert counting.puts == 1


def _now(folder: Path) -> int:
    """Gives the filesystem's own time."""
    probe = folder / "probe"
    probe.touch()
    return probe.stat().st_mtime_ns


class _Counting(BlobFolder):
    puts = 0

    def put(self, content):  # type: ignore[no-untyped-def]
        self.puts += 1
        return super().put(content)


def test_too_large_unreadable_and_too_many_are_told_and_left_alone(keyed: Place) -> None:
    with keyed.worktree(limits=Limits(max_file_bytes=100, max_ignored_files=2)) as worktree:
        for name in ("a.key", "b.key", "c.key"):
            write(worktree.path / name, name)
        write(worktree.path / "a.key", "x" * 101)
        found = worktree.keep_ignored(PATTERNS, blobs(keyed))
        assert [file.path for file in found.files] == ["b.key"]
        assert (found.skipped, found.cut) == (("a.key",), 1)
        worktree.set_ignored(Wanted({}, PATTERNS), {}, blobs(keyed))
        assert sorted(path.name for path in worktree.path.glob("*.key")) == ["a.key"]


def test_only_what_the_backup_has_is_destroyed(keyed: Place) -> None:
    with keyed.worktree() as worktree:
        write(worktree.path / "same.key", "then")
        write(worktree.path / "d/late.key", "then")
        wanted = {"same.key": keep(keyed, worktree)["same.key"]}
        for name in ("same.key", "new.key", "d/late.key"):
            write(worktree.path / name, f"now {name}")
        backup = keep(keyed, worktree)
        write(worktree.path / "d/late.key", "after the backup")
        write(worktree.path / "unseen.key", "in no backup")
        changed = worktree.set_ignored(Wanted(wanted, PATTERNS), backup, blobs(keyed), dry_run=True)
        assert changed == ("d/late.key", "new.key", "same.key", "unseen.key")
        assert (worktree.path / "new.key").read_text() == "now new.key"
        assert worktree.set_ignored(Wanted(wanted, PATTERNS), backup, blobs(keyed)) == changed
        assert set(exact(worktree.path)) == {b".gitignore", b"README.md", b"same.key"}
        assert (worktree.path / "same.key").read_text() == "then"
        assert aside(keyed) == {"late.key": b"after the backup", "unseen.key": b"in no backup"}
        assert worktree.set_ignored(Wanted(wanted, PATTERNS), backup, blobs(keyed)) == ()


def test_only_paths_that_are_asked_for_are_changed(keyed: Place) -> None:
    with keyed.worktree() as worktree:
        for name in ("one.key", "d/two.key", "d/e/three.key"):
            write(worktree.path / name, "then")
        wanted = keep(keyed, worktree)
        for name in wanted:
            write(worktree.path / name, "now")
        backup = keep(keyed, worktree)
        some = Wanted(wanted, PATTERNS, within=("d/e", "one.key"))
        assert worktree.set_ignored(some, backup, blobs(keyed)) == ("d/e/three.key", "one.key")
        assert (worktree.path / "d/two.key").read_text() == "now"
        spared = Wanted({}, PATTERNS, spared=("d",))
        assert worktree.set_ignored(spared, keep(keyed, worktree), blobs(keyed)) == ("one.key",)


def test_unchanged_files_are_not_touched_and_a_mode_alone_is_set(keyed: Place) -> None:
    with keyed.worktree() as worktree:
        for name in ("same.key", "mode.key"):
            write(worktree.path / name, name)
        (worktree.path / "mode.key").chmod(0o400)
        wanted = keep(keyed, worktree)
        (worktree.path / "mode.key").chmod(0o755)
        before = {path.name: path.stat() for path in worktree.path.glob("*.key")}
        assert worktree.set_ignored(Wanted(wanted, PATTERNS), keep(keyed, worktree), blobs(keyed)) == ("mode.key",)
        after = {path.name: path.stat() for path in worktree.path.glob("*.key")}
        assert after["same.key"] == before["same.key"]
        assert oct(after["mode.key"].st_mode) == "0o100400"
        assert after["mode.key"].st_ino == before["mode.key"].st_ino


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_a_damaged_content_is_named_before_anything_is_touched(keyed: Place, damage: str) -> None:
    with keyed.worktree() as worktree:
        for name in ("a.key", "b.key"):
            write(worktree.path / name, f"{name} then")
        wanted = keep(keyed, worktree)
        for name in ("a.key", "b.key", "c.key"):
            write(worktree.path / name, "now")
        backup = keep(keyed, worktree)
        digest = wanted["b.key"][1].hex()
        stored = keyed.folder / "blobs" / digest[:2] / digest[2:]
        if damage == "missing":
            stored.unlink()
        else:
            raw = stored.read_bytes()
            stored.write_bytes(raw[:-6] + bytes([raw[-6] ^ 1]) + raw[-5:])
        present = exact(worktree.path)
        with pytest.raises(Corruption, match=digest):
            worktree.set_ignored(Wanted(wanted, PATTERNS), backup, blobs(keyed))
        assert exact(worktree.path) == present
        write(worktree.path / "again.key", "b.key then")
        keep(keyed, worktree)  # whoever has the content again mends the blob
        worktree.set_ignored(Wanted(wanted, PATTERNS), backup, blobs(keyed))
        assert (worktree.path / "b.key").read_text() == "b.key then"


def test_no_link_leads_out_of_the_worktree(keyed: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside / "d.key", "the user's")
    with keyed.worktree() as worktree:
        write(worktree.path / "d/d.key", "then")
        wanted = keep(keyed, worktree)
        shutil.rmtree(worktree.path / "d")
        (worktree.path / "d").symlink_to(outside, target_is_directory=True)
        assert keep(keyed, worktree) == {}
        worktree.set_ignored(Wanted(wanted, PATTERNS), {}, blobs(keyed))
        assert (worktree.path / "d/d.key").read_text() == "then"
        assert not (worktree.path / "d").is_symlink()
    assert (outside / "d.key").read_text() == "the user's"
    assert sorted(path.name for path in outside.iterdir()) == ["d.key"]


def test_files_and_folders_in_each_others_place(keyed: Place) -> None:
    with keyed.worktree() as worktree:
        write(worktree.path / "cache", "a file")
        file = keep(keyed, worktree)
        (worktree.path / "cache").unlink()
        write(worktree.path / "cache/deep/one", "1")
        (worktree.path / "cache/two").symlink_to("deep")
        folder = keep(keyed, worktree)
        assert set(folder) == {"cache/deep/one", "cache/two"}
        for wanted, backup in ((file, folder), (folder, file), (file, folder)):
            worktree.set_ignored(Wanted(wanted, PATTERNS), backup, blobs(keyed))
            assert keep(keyed, worktree) == wanted
        assert aside(keyed) == {}


NAMES = ("a.key", "d/a.key", "d/e/b.key", "d", "d/plain", "cache", "cache/x", "cache/x/y", "cache/odd\udcff\\n.key")
STATE = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(
        st.sampled_from(["f", "l"]), st.sampled_from(["", "1", "22", "z" * 9000]), st.sampled_from([0o644, 0o700])
    ),
    max_size=6,
)


def make(root: Path, state: dict[str, tuple[str, str, int]]) -> None:
    """Makes the files of `state` and no others; a name that another one needs as a folder is passed over."""
    for path in root.iterdir():
        if path.name not in (".git", *RULES):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, (kind, content, mode) in state.items():
        place = root / name
        if any(other.startswith(name + "/") for other in state):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind == "l":
            place.symlink_to(content[:50] or "nowhere")
        else:
            place.write_text(content)
            # what git keeps of a tracked file's mode is what the umask leaves of it
            place.chmod(mode if "key" in name or "cache" in name else 0o644)


@settings(max_examples=int(os.environ.get("HOLDFAST_TEST_EXAMPLES", "40")), suppress_health_check=list(HealthCheck))
@given(states=st.lists(STATE, min_size=2, max_size=4), back=st.lists(st.integers(0, 3), min_size=2, max_size=4))
def test_any_state_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[str, tuple[str, str, int]]], back: list[int]
) -> None:
    place = make_place(tmp_path_factory.mktemp("state"), RULES)
    with place.worktree() as worktree:
        past: list[tuple[Exact, str, Entries]] = []
        for state in states:
            make(worktree.path, state)
            past.append((exact(worktree.path), worktree.snapshot().tree, keep(place, worktree)))
            place.vault.sync()
        now = past[-1]
        for number in back:
            then = past[number % len(past)]
            worktree.set_tree(then[1])
            worktree.set_ignored(Wanted(then[2], PATTERNS), now[2], blobs(place))
            assert exact(worktree.path) == then[0]
            now = then
    # a folder of ignored files where a tracked file goes is the one thing that `set_tree` moves aside
    assert aside(place) == {} or any("d" in state for state in states)
