"""`holdfast run`, killed, and `holdfast resume`, killed too, as a person has them."""

from __future__ import annotations

import pytest
from tests.crash.conftest import MakeScene, Undisturbed
from tests.harness import crash
from tests.harness.crash import Mode, Story, parse_kill


@pytest.mark.parametrize(
    ("mode", "kills"),
    [
        pytest.param("worker", "@begin:left engine.merge.commit_written:1", marks=pytest.mark.campaign),
        ("all", "@begin:build engine.seal.before_commit:2"),
    ],
)
def test_a_killed_run_goes_on_with_resume(make: MakeScene, undisturbed: Undisturbed, mode: Mode, kills: str) -> None:
    story = Story(mode, tuple(map(parse_kill, kills.split())), cli=True)
    report = crash.play(make(), story, undisturbed[0])
    assert report.problems == (), str(story)
    assert report.kills == len(story.kills), str(report.lives)
    assert "crash sample" in report.lives[-1].output
