"""The main stories of agents once more, with PostgreSQL; those that run with it each time are not among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.engine import test_agent_budgets as budgets
from tests.engine import test_agent_drafter as drafter
from tests.engine import test_agents as agents
from tests.engine import test_permissions as permissions
from tests.engine import test_races as races
from tests.engine import test_reviews as reviews
from tests.engine import test_supervisor as supervisor
from tests.engine.conftest import Bench, settings

pytestmark = pytest.mark.campaign


@pytest.fixture
def house(postgres_url: str, tmp_path: Path, repository: Path) -> Iterator[agents.Agents]:
    yield from agents.agents(settings(tmp_path, postgres_url), repository, tmp_path / "agents")


@pytest.fixture
def asking_house(postgres_url: str, tmp_path: Path, repository: Path) -> Iterator[Bench]:
    yield from permissions.agents(settings(tmp_path, postgres_url), repository)


@pytest.mark.parametrize(
    "story",
    [
        agents.test_an_attempt_after_a_failed_check_is_a_new_session_that_is_told_what_failed,
        agents.test_agents_of_a_parallel_phase_work_beside_each_other_and_are_merged,
        agents.test_an_interrupted_agent_goes_on_in_its_own_session,
        agents.test_a_rate_limit_is_waited_out_without_using_up_an_attempt_and_the_session_goes_on,
        supervisor.test_it_changes_the_plan_by_its_tools_and_reaches_no_other,
        supervisor.test_an_agent_that_dies_goes_on_in_its_session,
        races.test_a_failed_task_is_raced_and_the_picked_result_is_its_own,
        reviews.test_an_approved_result_completes_the_plan,
        drafter.test_an_agent_drafts_a_plan_from_the_projects_files,
        drafter.test_a_review_of_a_plan_that_has_begun_sees_the_work_that_is_done,
    ],
)
def test_agents(house: agents.Agents, story: Callable[[agents.Agents], None]) -> None:
    story(house)


@pytest.mark.parametrize(
    "story",
    [
        permissions.test_two_agents_ask_at_once_and_each_gets_its_own_answer,
        permissions.test_an_interrupted_agent_asks_anew_when_its_plan_goes_on,
        permissions.test_a_remembered_permission_is_a_rule_of_the_plan_and_is_not_asked_again,
        budgets.test_tokens_that_are_told_reach_the_budget_before_the_next_task,
    ],
)
def test_permissions_and_budgets(asking_house: Bench, story: Callable[[Bench], None]) -> None:
    story(asking_house)
