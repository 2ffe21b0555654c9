"""How a reviewer's answer is read, and what it is asked."""

from __future__ import annotations

import pytest
from tests.unit.builders import make_plan, make_task

from holdfast.domain.review import DIFF_CHARACTERS, Review, Verdict, read_review, review_prompt

APPROVED = Review(Verdict.APPROVED)


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"verdict": "approved", "findings": []}\n```',
        'All is well.\n\n```\n{"verdict": "Approved"}\n```\nBye.',
        '{"verdict": "approve"}',
        'I first thought {"verdict": "changes_needed", "findings": ["x"]}, but: {"verdict": "approved"}',
        '```json\n{"verdict": "changes_needed", "findings": ["a"]}\n```\n```json\n{"verdict": "approved"}\n```',
    ],
)
def test_an_approval_is_read_however_it_is_wrapped(text: str) -> None:
    assert read_review(text) == APPROVED


@pytest.mark.parametrize(
    ("findings", "read"),
    [
        ('["a is wrong"]', ("a is wrong",)),
        ('"a is wrong"', ("a is wrong",)),
        ('[{"file": "a.py", "line": 3, "problem": "wrong"}]', ("a.py:3: wrong",)),
        ('[{"path": "a.py", "title": "Bad", "detail": "why"}, ""]', ("a.py: Bad; why",)),
    ],
)
def test_findings_are_read_in_the_shapes_that_reviewers_use(findings: str, read: tuple[str, ...]) -> None:
    text = f'```json\n{{"verdict": "changes requested", "findings": {findings}}}\n```'
    assert read_review(text) == Review(Verdict.CHANGES_NEEDED, read)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Approved!",
        "{",
        "[]",
        '{"verdict": "maybe"}',
        '{"verdict": "changes_needed", "findings": []}',
        "{" * 200_000,
    ],
)
def test_what_is_no_verdict_is_none(text: str) -> None:
    assert read_review(text) is None


def test_the_prompt_is_bounded_and_quotes_what_others_wrote() -> None:
    prompt = review_prompt(make_plan(description="aim"), [make_task("a")], "+x\n" * DIFF_CHARACTERS, ["earlier"])
    assert len(prompt) < 3 * DIFF_CHARACTERS
    assert "> aim" in prompt
    assert "1. earlier" in prompt
    assert "> +x" in prompt
