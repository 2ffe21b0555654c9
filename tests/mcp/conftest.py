"""Two plans in a house, and clients that talk to the real server, a process of its own, by the library's own client."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import Bench, bench, repository

from holdfast.app import plans, tokens
from holdfast.domain.plan import Plan
from holdfast.domain.planfile import parse
from holdfast.domain.token import TokenScope
from mcp import Client, StdioServerParameters

__all__ = ["bench", "repository"]

OURS = """
title: Ours
phases:
  - title: Work
    tasks:
      - {key: build, title: Build, run: "echo built > built.txt"}
      - {key: test, title: Test, run: "test -f built.txt", max_attempts: 1}
"""
THEIRS = OURS.replace("Ours", "Theirs").replace("build,", "paint,").replace("test,", "hang,")


@dataclass
class Server:
    """A house with two plans; `client` speaks for the bearer of a token."""

    bench: Bench
    ours: Plan
    theirs: Plan

    def token(self, scope: TokenScope, reference: str = "", **given: Any) -> str:
        return tokens.create(self.bench.house, scope, reference=reference, **given).secret

    def environment(self, secret: str) -> dict[str, str]:
        data = str(self.bench.house.settings.data)
        return {"HOLDFAST_DATA": data, "HOLDFAST_SANDBOX": "none", "HOLDFAST_TOKEN": secret}

    @asynccontextmanager
    async def client(self, secret: str) -> AsyncIterator[Calls]:
        words = ["-m", "holdfast", "mcp"]
        parameters = StdioServerParameters(command=sys.executable, args=words, env=self.environment(secret))
        async with Client(parameters) as client:
            yield Calls(client)


@dataclass
class Calls:
    """A client, and what the server says to it."""

    client: Client

    async def names(self) -> set[str]:
        return {tool.name for tool in (await self.client.list_tools()).tools}

    async def __call__(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        return result.structured_content

    async def refusal(self, tool: str, **arguments: Any) -> str:
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        return result.content[0].text  # pyright: ignore


@pytest.fixture
def server(bench: Bench, tmp_path: Path) -> Server:
    made = [plans.create(bench.house, bench.project, parse(text, source="plan.yaml")) for text in (OURS, THEIRS)]
    return Server(bench, *made)
