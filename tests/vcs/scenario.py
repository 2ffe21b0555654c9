"""A small job on a vault and a worktree, in a process of its own so that it can be killed anywhere and run again."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from pathlib import Path

from tests.vcs.places import BRANCH, TIME, Files, sh, walk, write

from holdfast.domain.own_git import begun, fresh
from holdfast.engine.kept import BlobFolder
from holdfast.vcs import PlainFolder, Vault, Wanted, Worktree, trees
from holdfast.vcs.trees import FILE

CHECKPOINTS = "refs/holdfast/checkpoints/task"
KEYS = ("*.key",)
"""The ignored files that are kept."""


def work(root: Path) -> None:
    """What an agent does; doing it again gives the same."""
    write(root / "src/app.py", "print(2)\n")
    write(root / "new/one", "1")
    write(root / "new/two", "2" * 3000)
    (root / "README.md").unlink(missing_ok=True)
    if (root / "old").is_dir():
        shutil.rmtree(root / "old")
    write(root / "old", "a file now")
    write(root / "one.key", "ignored")
    write(root / "new/two.key", "ignored too")


def commit_on_its_own(root: Path, base: str) -> None:
    """What an agent does with git itself; doing it again gives the same."""
    sh("git", "config", "user.name", "Agent", cwd=root)
    sh("git", "add", "-A", cwd=root)
    tree = sh("git", "write-tree", cwd=root)
    who = ["-c", "user.email=agent@example.org", "commit-tree", tree, "-p", base, "-m", "own"]
    dates = ["env", "GIT_AUTHOR_DATE=2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2026-01-01T00:00:00Z"]
    sh("git", "update-ref", "refs/heads/own", sh(*dates, "git", *who, cwd=root), cwd=root)


def put_into_a_plain_folder(folder: Path) -> tuple[Files, Files]:
    """Puts a plan's result into a folder without git, takes it back, and puts it there again."""
    root = folder / "plain"
    root.mkdir(exist_ok=True)
    with (
        Vault.open_or_create(folder / "data/plain.git", None) as vault,
        PlainFolder(vault, root) as plain,
    ):
        assert vault.recover(0.0)
        base = vault.head("base")
        if base is None:
            write(root / "change.txt", "1")
            write(root / "gone/a", "a")
            base = plain.commit(TIME)
            vault.create_branch("base", base)
        blob = vault.objects.put("blob", b"2")
        made = {b"change.txt": (FILE, blob), b"gone/a": None, b"gone": (FILE, blob), b"new/b": (FILE, blob)}
        tree = trees.apply(vault.objects, bytes.fromhex(vault.tree_of(base)), {b"gone": None})
        tree = trees.apply(vault.objects, tree, {path: entry for path, entry in made.items() if entry})
        head = vault.write_commit(tree.hex(), [base], "made\n", time=TIME)
        plain.merge("plan", base, head, TIME)
        if not vault.refs("refs/heads/taken"):
            plain.take_back("plan", base, TIME)
            vault.create_branch("taken", base)
            back = walk(root)
            write(folder / "back", repr(back))
            plain.merge("plan", base, head, TIME)
        back = ast.literal_eval((folder / "back").read_text())
        assert vault.fsck() == []
        return back, walk(root)


def run(folder: Path) -> dict[str, object]:
    """Does the whole job, whatever part of it was done before; gives all that must come of it."""
    repository = folder / "repository"
    with Vault.open_or_create(folder / "data/vault.git", repository) as vault:
        assert vault.recover()
        assert vault.fsck() == []
        base = vault.fetch(repository, "main")
        if vault.head(BRANCH) is None:
            vault.create_branch(BRANCH, base)
        with Worktree.ensure(vault, folder / "data/worktrees/w", BRANCH, base) as worktree:
            blobs = BlobFolder(folder / "data/blobs")
            worktree.set_tree(vault.tree_of(base))
            worktree.set_ignored(Wanted({}, KEYS), {}, blobs)
            (worktree.path / ".git/HEAD").unlink(missing_ok=True)
            worktree.set_own_git(fresh(BRANCH, base))
            work(worktree.path)
            commit_on_its_own(worktree.path, base)
            snapshot = worktree.snapshot()
            tree, own = snapshot.tree, snapshot.own
            assert own is not None
            kept = {file.path: (file.mode, file.oid) for file in worktree.keep_ignored(KEYS, blobs).files}
            vault.write_checkpoint(f"{CHECKPOINTS}/1", tree, [base], "first\n", TIME)
            vault.keep_own(f"{CHECKPOINTS}/1", own.tips)
            commit = vault.write_commit(tree, [base], "work\n\nHoldfast-Step: 1\n", time=TIME)
            vault.move_branch(BRANCH, commit, base)
            worktree.set_tree(vault.tree_of(base))
            worktree.set_ignored(Wanted({}, KEYS), kept, blobs)
            worktree.set_own_git(fresh(BRANCH, base))
            back = walk(worktree.path)
            alone = sh("git", "for-each-ref", "--format=%(refname)", cwd=worktree.path)
            vault.write_checkpoint(f"{CHECKPOINTS}/2", worktree.snapshot().tree, [base], "second\n", TIME)
            worktree.set_tree(tree)
            worktree.set_ignored(Wanted(kept, KEYS), {}, blobs)
            worktree.set_own_git(own)
            worktree.set_own_git(begun(own, BRANCH, commit))
            worktree.set_own_git(own)
            files = walk(worktree.path)
            said = sh("git", "log", "-1", "--format=%s %T", "own", "--", cwd=worktree.path).replace(tree, "all of it")
            said += " " + sh("git", "config", "user.name", cwd=worktree.path)
            said += sh("git", "diff", "--cached", "--name-only", cwd=worktree.path)
        plain_back, plain = put_into_a_plain_folder(folder)
        exported = vault.export_branch(repository, BRANCH, "review")
        refs = vault.refs("refs/")
        problems = vault.fsck()
    names = {
        path.name
        for path in (folder / "data").rglob("*")
        if any(part in path.name for part in (".making-", ".holdfast-tmp", ".git-", "incoming"))
    }
    return {
        "files": {path.decode(): [kind, content.decode()] for path, (kind, content) in files.items()},
        "plain": {path.decode(): [kind, content.decode()] for path, (kind, content) in plain.items()},
        "plain_back": {path.decode(): [kind, content.decode()] for path, (kind, content) in plain_back.items()},
        "back": {path.decode(): [kind, content.decode()] for path, (kind, content) in back.items()},
        "refs": refs,
        "own": [alone, said],
        "exported": exported,
        "problems": problems,
        "leftovers": sorted(names),
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1])), sort_keys=True))
