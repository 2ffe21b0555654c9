"""What each tool does, and what each token reaches: over the real server, on a real database."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.mcp.conftest import Server

from holdfast.app import approvals, history, plans, tasks, tokens
from holdfast.domain.token import TOOLS, TokenScope, Tool
from holdfast.errors import NotFound

OF_A_TASK = {
    "history": {},
    "checkpoint": {"message": "x"},
    "ask_person": {"question": "x?"},
    "report_progress": {"message": "x"},
}
SECRET = "sk-ant-" + "a1b2c3d4" * 8


def test_a_plan_token_reads_and_changes_its_own_plan(server: Server) -> None:
    async def talk() -> None:
        async with server.client(server.token(TokenScope.PLAN, "P1")) as call:
            assert await call.names() == set(Tool)
            seen = await call("plan_get")
            assert [task["key"] for task in seen["tasks"]] == ["build", "test"]
            added = await call("task_add", title="Lint", run="make lint", depends_on=["build"])
            assert added["changes"][0]["deed"] == "added"
            changed = await call("task_update", task="lint", title=f"Lint with {SECRET}")
            assert SECRET not in str(changed)
            assert "[redacted:anthropic_key]" in changed["difference"]
            again = await call.refusal("task_add", title="Lint", run="make lint")
            assert "is already that of T5" in again
            progress = {"message": "half of it", "percent": 50}
            await call("report_progress", **progress)
            # A slow machine may let more than a second pass between two reports: then the next is refused.
            while not (told := await call.client.call_tool("report_progress", progress)).is_error:
                pass
            assert "[too_often]" in str(told.content)

    asyncio.run(talk())
    house = server.bench.house
    assert [task.key for task in plans.show(house, server.ours.id).tasks] == ["build", "test", "lint"]
    told = history.timeline(house, plan_id=server.ours.id).items
    assert told[0].subtype == "progress"
    assert told[0].data == {"message": "half of it", "percent": 50}
    assert told[0].actor == "agent:P1"


def test_a_plan_token_reaches_nothing_of_another_plan(server: Server) -> None:
    def gone(noun: str, name: str) -> str:
        return f"[not_found] this token reaches no {noun} {name!r}"

    async def talk() -> None:
        async with server.client(server.token(TokenScope.PLAN, "P1")) as call:
            for theirs in ("P2", server.theirs.id):
                assert gone("plan", theirs) in await call.refusal("plan_get", plan=theirs)
                assert gone("plan", theirs) in await call.refusal("history", plan=theirs)
                assert gone("plan", theirs) in await call.refusal("task_add", title="x", run="true", plan=theirs)
                assert gone("plan", theirs) in await call.refusal("ask_person", question="x?", plan=theirs)
                assert gone("plan", theirs) in await call.refusal("report_progress", message="x", plan=theirs)
            for theirs in ("T3", "paint"):
                assert gone("task", theirs) in await call.refusal("task_update", task=theirs, title="x")
                assert gone("task", theirs) in await call.refusal("task_update", task=theirs, action="skip")
                assert gone("task", theirs) in await call.refusal("checkpoint", message="x", task=theirs)
                assert gone("task", theirs) in await call.refusal("history", task=theirs)
                assert gone("task", theirs) in await call.refusal("ask_person", question="x?", task=theirs)
                assert gone("task", theirs) in await call.refusal("report_progress", message="x", task=theirs)

    before = history.last_event(server.bench.house)
    asyncio.run(talk())
    assert [event.subtype for event in history.after(server.bench.house, before)] == ["token_created"]


def test_a_task_token_reaches_its_own_task_alone(server: Server) -> None:
    async def talk() -> None:
        async with server.client(server.token(TokenScope.TASK, "T1")) as call:
            assert await call.names() == {each.value for each in TOOLS[TokenScope.TASK]}
            assert (await call("plan_get"))["plan"]["id"] == server.ours.id
            for tool in ("task_add", "task_update"):
                assert "nknown tool" in await call.refusal(tool, title="x", task="T1")
            for other in ("T2", "test", "T3"):
                for tool, words in (
                    ("history", {}),
                    ("checkpoint", {"message": "x"}),
                    ("ask_person", {"question": "x?"}),
                ):
                    assert f"reaches no task {other!r}" in await call.refusal(tool, task=other, **words)
            assert "reaches no plan" in await call.refusal("plan_get", plan="P2")
            await call("report_progress", message="on it")
            events = (await call("history"))["items"]
            assert {event["task_id"] for event in events} == {tasks.find(server.bench.house, "T1")}

    asyncio.run(talk())


def test_a_call_after_the_token_was_revoked_is_refused(server: Server) -> None:
    secret = server.token(TokenScope.PLAN, "P1")

    async def talk() -> None:
        async with server.client(secret) as call:
            await call("plan_get")
            tokens.revoke(server.bench.house, "K1")
            assert "[bad_token] the token was revoked" in await call.refusal("plan_get")
            assert "[bad_token]" in await call.refusal("ask_person", question="Who?")

    asyncio.run(talk())
    assert approvals.list_(server.bench.house) == ()


def test_an_expired_token_and_a_wrong_one_open_nothing(server: Server) -> None:
    house = server.bench.house
    expired = server.token(TokenScope.READ, expires_in=timedelta(seconds=-1))
    for secret in (expired, "hft_" + "0" * 64, ""):
        with pytest.raises(NotFound):
            tokens.bearing(house, secret)


def test_the_secret_of_a_token_is_nowhere_in_the_data_folder(server: Server) -> None:
    secret = server.token(TokenScope.PLAN, "P1", name="for the agent")

    async def talk() -> None:
        async with server.client(secret) as call:
            await call("report_progress", message=f"my token is {secret}")

    asyncio.run(talk())
    files = [path for path in server.bench.house.settings.data.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    assert "[redacted:HOLDFAST_TOKEN]" in str(history.timeline(server.bench.house).items[0].data)


def test_an_agent_gets_its_answer_hours_later_from_another_process(server: Server) -> None:
    secret = server.token(TokenScope.TASK, "T1")
    asked = {"question": "Which database?", "key": "db", "options": ["SQLite", "PostgreSQL"]}

    async def first() -> None:
        async with server.client(secret) as call:
            waiting = await call("ask_person", **asked, wait_seconds=0)
            assert (waiting["state"], waiting["gate"]) == ("waiting", "A1")
            assert "another question" in await call.refusal("ask_person", question="Why?", key="db", wait_seconds=0)

    async def later() -> None:
        async with server.client(secret) as call:
            waiting = await call("ask_person", **asked, wait_seconds=0)
            assert (waiting["state"], waiting["gate"]) == ("waiting", "A1")
            answering = asyncio.create_task(call("ask_person", **asked, wait_seconds=60))
            await asyncio.to_thread(approvals.decide, house, gate.id, approve=True, comment="PostgreSQL")
            answer = await answering
            assert (answer["state"], answer["answer"], answer["by"]) == ("answered", "PostgreSQL", "tester")

    async def much_later() -> None:
        async with server.client(secret) as call:
            assert (await call("ask_person", **asked))["answer"] == "PostgreSQL"

    house = server.bench.house
    asyncio.run(first())
    (gate,) = approvals.list_(house)
    assert gate.title == "T1 asks: Which database?"
    asyncio.run(later())
    asyncio.run(much_later())
    assert len(approvals.list_(house, open_only=False)) == 1


def test_a_checkpoint_of_a_task_that_has_run_is_made_by_its_agent(server: Server) -> None:
    plans.execute(server.bench.house, server.ours.id)
    with server.bench.working() as worker:
        server.bench.until(worker, server.ours.id)

    async def talk() -> None:
        async with server.client(server.token(TokenScope.TASK, "T1")) as call:
            made = await call("checkpoint", message="as it should be")
            assert made["checkpoint"].startswith("T1@")

    asyncio.run(talk())
    newest = tasks.show(server.bench.house, tasks.find(server.bench.house, "T1")).checkpoints[0]
    assert newest.name == "as it should be"


def test_a_read_token_is_told_of_any_plan_and_changes_nothing(server: Server) -> None:
    async def talk() -> None:
        async with server.client(server.token(TokenScope.READ)) as call:
            assert await call.names() == {"plan_get", "history"}
            assert "needs to be told of which plan" in await call.refusal("plan_get")
            assert (await call("plan_get", plan="P2"))["plan"]["title"] == "Theirs"

    asyncio.run(talk())
