from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs import readme

from holdfast.domain.planfile import parse


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_of_the_readme_take_a_plan_through_a_kill_to_its_result(tmp_path: Path, home: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    readme.git(shop, "init", "-q", "-b", "main")
    (shop / "till.txt").write_text("one\ntwo\n")
    readme.git(shop, "add", "-A")
    readme.git(shop, "commit", "-q", "-m", "first")
    before = readme.git(shop, "rev-parse", "HEAD")
    (plan,) = readme.blocks("file", "plan.yaml")
    (shop / "plan.yaml").write_text(plan)

    said = readme.perform(readme.commands("in a repository"), shop, home)

    assert re.search("P1 has no worker; it was interrupted at: .*T2 Lines", said)
    assert readme.git(shop, "show", "holdfast/measure-the-code:report.txt").split() == ["1", "2"]
    subjects = readme.git(shop, "log", "--no-merges", "--format=%s", "holdfast/measure-the-code").splitlines()
    assert sorted(subjects) == ["Files", "Lines", "Write the report", "first"]
    assert readme.git(shop, "rev-parse", "HEAD") == before
    assert readme.git(shop, "status", "--porcelain").split() == ["??", "plan.yaml"]
    assert (home / ".local/share/holdfast/holdfast.db").is_file()


def test_the_demo_of_the_readme_is_the_one_that_the_tests_of_the_cli_run() -> None:
    assert readme.commands("demo") == ["uv run holdfast demo"]
    assert 'program("demo"' in (readme.ROOT / "tests" / "cli" / "test_demo.py").read_text(encoding="utf-8")


def test_the_plan_of_the_readme_is_one() -> None:
    (plan,) = readme.blocks("file", "plan.yaml")
    assert [len(phase.tasks) for phase in parse(plan, source="README.md").phases] == [2, 1]
