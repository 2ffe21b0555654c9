from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from holdfast.domain.planfile import parse, render, schema
from holdfast.domain.planfile.fields import duration
from holdfast.domain.planfile.reading import BUDGET_KEYS, DEFAULT_KEYS, PHASE_KEYS, PLAN_KEYS, TASK_KEYS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plan-files.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_plan_that_survives_a_round_trip(path: Path) -> None:
    plan = parse(path.read_text(encoding="utf-8"), source=path.name)
    assert parse(render(plan), source=path.name) == plan


def test_every_plan_on_the_page_is_one() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        parse(block, source="docs/plan-files.md")


@pytest.mark.parametrize("key", sorted({*PLAN_KEYS, *PHASE_KEYS, *TASK_KEYS, *DEFAULT_KEYS, *BUDGET_KEYS}))
def test_every_key_is_documented(key: str) -> None:
    assert f"`{key}`" in PAGE


def test_the_schema_has_exactly_the_keys_that_the_parser_reads() -> None:
    found = json.loads(json.dumps(schema()))
    assert set(found["properties"]) == set(PLAN_KEYS)
    assert set(found["$defs"]["phase"]["properties"]) == set(PHASE_KEYS)
    assert set(found["$defs"]["task"]["properties"]) == set(TASK_KEYS)
    assert set(found["properties"]["defaults"]["properties"]) == set(DEFAULT_KEYS)
    assert set(found["properties"]["budget"]["properties"]) == set(BUDGET_KEYS)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("0.5h", 1800)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1 h", "h1", "1w", "1h 30m", "١٢", "inf", "nan", "1_000"])
def test_anything_else_is_no_duration(text: str) -> None:
    assert duration(text) is None
