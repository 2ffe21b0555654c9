"""A task's checkpoints on the command line: listed, compared, and made a branch of."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Program, git

PLAN = """
title: Two
phases:
  - title: Only
    tasks:
      - {title: First, key: first, run: 'printf "1\\n2\\n" > numbers; echo draft > notes'}
      - {title: Idle, key: idle, run: 'true'}
"""


@pytest.fixture(scope="module")
def ran(shared: Program) -> Program:
    assert shared("run", shared.plan(PLAN)).code == 0
    assert shared("task", "checkpoint", "T1", "-m", "by hand").code == 0
    return shared


def test_checkpoints_are_listed_newest_first_by_pages_with_what_each_changed(ran: Program) -> None:
    first = ran("task", "checkpoints", "T1", "--json", "--limit", "2", "--with-diff").json
    assert [(item["label"], item["kind"], item["head"]) for item in first["items"]] == [
        ("T1@3", "manual", True),
        ("T1@2", "step", False),
    ]
    assert [(item["diff"]["files_total"], item["diff"]["additions"]) for item in first["items"]] == [(0, 0), (2, 3)]
    rest = ran("task", "checkpoints", "T1", "--json", "--cursor", first["next_cursor"]).json
    assert [item["label"] for item in rest["items"]] == ["T1@1"]
    assert (rest["next_cursor"], "diff" in rest["items"][0]) == (None, False)
    assert "+3 -0" in ran("task", "checkpoints", "T1", "--with-diff").out
    assert "head" in ran("task", "checkpoints", "T1").out


def test_the_checkpoints_of_a_plan_are_those_of_its_stages_and_its_tasks(ran: Program) -> None:
    found = ran("plan", "checkpoints", "P1", "--json").json["items"]
    labels = [each["label"] for each in found]
    assert {"P1@1", "T1@1"} <= set(labels)
    assert "start_implementation" in [each["name"] for each in found]
    assert labels[0] in ran("plan", "checkpoints", "P1").out


def test_a_checkpoint_is_compared_with_the_one_before_it_or_another(ran: Program) -> None:
    assert "+draft" in ran("task", "diff", "T1", "2").out
    assert "0 files changed" in ran("task", "diff", "T1", "by hand").out
    back = ran("task", "diff", "T1", "T1@1", "--against", "latest", "--json").json
    assert (back["before"], back["after"], back["deletions"]) == ("T1@3", "T1@1", 3)
    assert "0 files changed" in ran("task", "diff", "T1", "1").out
    assert "+draft" in ran("task", "diff", "T1", "latest", "--against", "workflow_start").out
    assert ran("task", "diff", "T1", "--against", "1").code == 2
    unknown = ran("task", "diff", "T1", "17", "--json")
    assert (unknown.code, "it has T1@3, T1@2, T1@1" in unknown.err) == (4, True)


def test_a_branch_is_made_of_a_checkpoint_and_nothing_else_is_touched(ran: Program) -> None:
    before = git(ran.repository, "for-each-ref")
    assert ran("task", "branch", "T1", "--at", "2", "try/it").code == 2, "off a terminal it wants --yes"
    would = ran("task", "branch", "T1", "--at", "2", "try/it", "--dry-run").out
    assert would.startswith("would make the branch try/it at T1@2")
    assert git(ran.repository, "for-each-ref") == before
    made = ran("task", "branch", "T1", "--at", "2", "try/it", "--yes", "--json").json
    assert (made["branch"], made["checkpoint"]) == ("try/it", "T1@2")
    assert git(ran.repository, "show", "try/it:notes") == "draft\n"
    assert git(ran.repository, "status", "--porcelain") == ""
    assert ran("timeline", "--type", "checkpoint", "--json").json["items"][0]["subtype"] == "branch"
    assert ran("task", "branch", "T1", "--at", "2", "try/it", "--yes").code == 0, "it is there: nothing to do"


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("main", 3, "the branch main exists"),
        ("main/side", 3, "cannot have the branch main/side beside main"),
        ("a..b", 2, "is not a name for a branch"),
        ("refs/tags/x", 2, "is not a name"),
        ("", 2, "is not a name"),
    ],
)
def test_a_branch_that_cannot_be_made_is_refused_and_nothing_is_written(
    ran: Program, name: str, code: int, told: str
) -> None:
    before = git(ran.repository, "for-each-ref"), git(ran.repository, "count-objects", "-v")
    for consent in ("--yes", "--dry-run"):
        refused = ran("task", "branch", "T1", "--at", "2", consent, "--", name)
        assert (refused.code, told in refused.err) == (code, True), refused.err
    assert (git(ran.repository, "for-each-ref"), git(ran.repository, "count-objects", "-v")) == before
