"""The page about agents tells of every known one, every key, and its example is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.agents import catalog
from holdfast.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")


def known() -> dict[str, catalog.AgentSpec]:
    return catalog.known(Settings(agents=Path("/nonexistent/agents.toml")))


@pytest.mark.parametrize("name", known())
def test_every_known_agent_is_on_the_page_with_how_far_it_was_checked(name: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if re.match(rf"\|[^|]*`{name}`[^|]*\|", line)]
    checked = known()[name].verified.partition(":")[0] or "no"
    assert row.split("|")[3].strip() == checked


def test_every_key_is_on_the_page() -> None:
    assert [key for key in catalog.KEYS if not re.search(rf"^\|[^|]*`{key}`", PAGE, re.MULTILINE)] == []


def test_the_example_is_a_file_of_agents() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    names = [spec.name for spec in catalog.parse(example, "agents.toml", known())]
    assert names == ["claude", "opencode", "opencode-fast", "ours"]
