"""A question becomes an answer in words."""

from __future__ import annotations

from holdfast.planner.drafting import Answer, Drafter, draft
from holdfast.planner.shapes import DraftAnswer


async def answer_question(drafter: Drafter, prompt: str) -> Answer:
    """Gives the answer to a question; errors are those of `draft_plan`."""
    drafted = await draft(drafter, prompt, DraftAnswer, lambda shape: shape.answer, what="answer")
    return Answer(drafted.result, drafted.usage)
