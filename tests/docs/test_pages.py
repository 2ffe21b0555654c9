from __future__ import annotations

import inspect
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from docs import generate
from holdfast.engine import task_command
from holdfast.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
# Taken apart here, so that this file itself may be looked at.
FOREIGN = ["/".join(("", "work", "")), ".".join(("", "library")), "/".join(("..", "shared"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == generate.PAGES[name](), "run: uv run python docs/generate.py"


@pytest.mark.parametrize("setting", [field.name for field in fields(Settings)])
def test_every_setting_is_documented(setting: str) -> None:
    assert f"`HOLDFAST_{setting.upper()}`" in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_every_command_has_a_summary_and_an_example() -> None:
    for path, command in generate.walk(generate.program, "holdfast"):
        assert command.help, path
        assert path in command.example, f"{path}: its example does not call it"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_something(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if re.match(r"https?://", target):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        assert file.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(file), f"{target} has no such heading"


def anchors(page: Path) -> set[str]:
    """Gives the anchors that a page's headings have on the usual forges."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_says_context_choice_and_price(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == ["Context", "Choice", "Price"]


def test_the_environment_that_commands_get_is_documented() -> None:
    source = inspect.getsource(task_command.command_environment)
    names = re.findall(r'^ +"(\w+)":', source, re.MULTILINE)
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert names
    assert [name for name in names if f"`HOLDFAST_{name.upper()}`" not in page] == []


def test_what_the_justfile_runs_is_there() -> None:
    text = (ROOT / "justfile").read_text(encoding="utf-8")
    scripts = re.findall(r"python (\S+\.py)", text)
    modules = [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (tests[\w.]+)", text)]
    assert scripts
    assert modules
    assert [name for name in [*scripts, *modules] if not (ROOT / name).is_file()] == []


def test_nothing_in_the_repository_names_the_place_where_it_was_written() -> None:
    line = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(line, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    found: list[str] = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        found += [f"{name}: {word}" for word in FOREIGN if word in text]
    assert found == []
