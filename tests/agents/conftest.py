"""Runs in temporary folders; coroutine tests each get an event loop of their own."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.agents.runs import Run

from holdfast.agents import kill_strays


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[[], Run]]:
    runs: list[Run] = []

    def make() -> Run:
        cwd = tmp_path / f"work{len(runs)}"
        cwd.mkdir()
        token = f"test-{uuid.uuid4()}"
        runs.append(Run(tmp_path / "runs" / token, cwd, token))
        return runs[-1]

    yield make
    for run in runs:
        kill_strays(run.token)


@pytest.fixture
def run(make_run: Callable[[], Run]) -> Run:
    return make_run()
