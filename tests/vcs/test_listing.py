"""Reading the files of a commit, from repositories of all kinds."""

from __future__ import annotations

import subprocess
from pathlib import Path

from holdfast.vcs import contents_at, files_at, mentions, resolve


def commit(folder: Path, files: dict[str, bytes]) -> str:
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "link").symlink_to("README")
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "start"], check=True)
    return resolve(folder, "HEAD")


FILES = {
    "README": b"about the Basket\n",
    "src/basket.py": b"class Basket: pass\nclass basket: price = 1\n",
    "src/a bé.txt": b"price of a basket\n",
    "big.bin": bytes(range(256)) * 10,
    "line\nfeed": b"basket",
}


def test_files_are_listed_with_their_sizes_and_links_are_not(tmp_path: Path) -> None:
    head = commit(tmp_path / "r", FILES)
    assert files_at(tmp_path / "r", head) == {name: len(data) for name, data in FILES.items()}


def test_contents_are_those_of_the_commit_not_of_the_checkout(tmp_path: Path) -> None:
    head = commit(tmp_path / "r", FILES)
    (tmp_path / "r" / "README").write_text("changed since")
    asked = ["big.bin", "README", "src", "gone", "src/a bé.txt", "line\nfeed"]
    found = contents_at(tmp_path / "r", head, asked)
    assert found == {name: FILES[name] for name in ("big.bin", "README", "src/a bé.txt")}
    assert list(found) == ["big.bin", "README", "src/a bé.txt"]


def test_words_are_found_whatever_their_capitals(tmp_path: Path) -> None:
    head = commit(tmp_path / "r", FILES)
    subprocess.run(["git", "-C", str(tmp_path / "r"), "config", "grep.lineNumber", "true"], check=True)
    found = mentions(tmp_path / "r", head, ["BASKET", "price", "--help"])
    assert found["src/basket.py"] == 2
    assert found["src/a bé.txt"] == 2
    assert found["README"] == 1
    assert mentions(tmp_path / "r", head, ["nowhere"]) == {}
    assert mentions(tmp_path / "r", head, []) == {}
