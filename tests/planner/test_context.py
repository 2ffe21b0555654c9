"""What a drafter is told of a project: enough, bounded, nothing secret, and what is cut is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.planner.context import MAX_FILES, Facts, choose, describe, is_secret, languages, words

paths = st.lists(st.text("abc./", min_size=1, max_size=12), max_size=40, unique=True)
FILES = {"README.md": 10, "src/basket.py": 500, "src/till.py": 400, "docs/basket.md": 300, "a/Makefile": 5}


def test_words_that_say_nothing_are_not_looked_for() -> None:
    assert words("make the Basket faster, with tests for basket_total and Basket") == (
        "Basket",
        "faster",
        "basket_total",
    )
    assert len(words(" ".join(f"word{n}" for n in range(100)))) == 12


def test_the_readme_comes_first_then_what_is_named_then_what_has_the_words() -> None:
    found = choose("Change till.py so that the basket is faster", FILES, {"a/Makefile": 1})
    assert found == ("README.md", "src/till.py", "docs/basket.md", "src/basket.py", "a/Makefile")
    assert choose("look into src/basket.py.", FILES, {})[1] == "src/basket.py"


def test_no_more_files_are_chosen_than_can_be_told() -> None:
    many = {f"basket{n}.py": n for n in range(100)}
    assert len(choose("the basket", many, {})) == MAX_FILES


@pytest.mark.parametrize(
    "name", [".env", ".env.local", "deploy/.env", "key.pem", "id_rsa", "secrets.yaml", "credentials.json", ".npmrc"]
)
def test_what_is_named_like_a_secret_is_never_told(name: str) -> None:
    assert is_secret(name)
    assert choose(f"read {name}", {name: 10}, {name: 5}) == ()
    told = describe(Facts("p", {name: 10}, {name: "hidden"}), 10_000)
    assert "hidden" not in told.text
    assert name in told.text


def test_a_name_that_only_sounds_like_a_secret_is_told() -> None:
    assert not any(map(is_secret, ["environment.py", "secretary.py", "keyboard.ts", "src/env.py"]))


def test_languages_are_counted() -> None:
    assert languages(["a.py", "b.py", "c.tsx", "d.unknown", "Makefile"]) == (("Python", 2), ("TypeScript", 1))


def test_all_of_a_small_project_is_told() -> None:
    told = describe(Facts("shop", FILES, {"README.md": "# shop"}, ["step 1: Build: completed"]), 20_000)
    assert all(path in told.text for path in FILES)
    assert "BEGIN file README.md\n# shop\nEND file README.md" in told.text
    assert "step 1: Build" in told.text
    assert told.files == ("README.md",)
    assert told.cut == ()


def test_folders_stand_for_files_that_are_too_many() -> None:
    files = {f"src/part{n % 7}/deep/file{n}.py": 1 for n in range(5000)} | {"setup.py": 1}
    told = describe(Facts("big", files), 5000)
    assert "src/part3/deep/ (714 files)" in told.text
    assert "setup.py" in told.text
    assert len(told.text) < 5000
    assert any("5,001 files are too many" in each for each in told.cut)
    assert told.cut[0] in told.text


def test_a_long_file_is_cut_and_said_so() -> None:
    told = describe(Facts("p", {"a.txt": 50_000, "b.txt": 5}, {"a.txt": "x" * 50_000, "b.txt": "short"}), 8000)
    assert "short" in told.text
    assert "more]" in told.text
    assert "a.txt is cut after 2,000 of 50,000" in told.cut[0]


@given(paths, st.integers(1000, 20_000), st.integers(0, 30_000))
def test_the_text_is_bounded_whatever_the_project(names: list[str], limit: int, size: int) -> None:
    contents = dict.fromkeys(names[:16], "x" * size)
    told = describe(Facts("p", dict.fromkeys(names, size), contents, ["step"] * 15), limit)
    frames = 80 * (len(names) + 10) + 2 * sum(map(len, names)) + sum(map(len, told.cut))
    assert len(told.text) <= limit + frames
    assert set(told.files) | {name for name in contents if is_secret(name)} | {
        name for name in contents if any(f"content of {name} " in each for each in told.cut)
    } == set(contents)
