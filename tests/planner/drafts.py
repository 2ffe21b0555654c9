"""Answers of models, and a plan to review."""

from __future__ import annotations

from typing import Any

from holdfast.domain.planfile import PlanFile, parse

GOOD: dict[str, Any] = {
    "title": "Add a greeting",
    "description": "The shop greets whoever comes in.",
    "phases": [
        {
            "title": "Build",
            "tasks": [
                {"title": "Write it", "key": "write", "run": "echo hello > hello.txt", "verify": ["test -s hello.txt"]},
                {"title": "Tell of it", "run": "echo hello >> README.md", "depends_on": ["write"]},
            ],
        }
    ],
}
CIRCULAR: dict[str, Any] = {
    "title": "Round and round",
    "phases": [
        {
            "title": "Only",
            "tasks": [
                {"title": "One", "key": "one", "run": "true", "depends_on": ["two"]},
                {"title": "Two", "key": "two", "run": "true", "depends_on": ["one"]},
            ],
        }
    ],
}


def plan() -> PlanFile:
    return parse(
        """
title: Shop
phases:
  - title: Build
    tasks:
      - {title: Model, key: model, run: make model}
      - {title: View, key: view, run: make view, depends_on: [model]}
  - title: Ship
    tasks:
      - {title: Pack, key: pack, run: make pack, depends_on: [model]}
""",
        source="plan.yaml",
    )
