"""`mcp`: the server that agents are given."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.cli.grammar import verb
from holdfast.cli.session import Session


@verb("mcp", example="HOLDFAST_TOKEN=hft_… holdfast mcp")
def mcp(session: Session) -> int:
    """Offer an agent the tools of its plan or task, on standard input and output.

    HOLDFAST_TOKEN says whose they are: holdfast token create. Agents that Holdfast runs have them already.
    """
    from holdfast.errors import UsageError

    secret = os.environ.get("HOLDFAST_TOKEN", "")
    if not secret:
        raise UsageError("HOLDFAST_TOKEN is not set", hint="make a token: holdfast token create plan P1")
    with session.house() as house:
        # After the house: the MCP library takes two seconds of CPU, in which a bad data folder need not be waited for.
        from holdfast.mcp import serve

        run = os.environ.get("HOLDFAST_RUN")
        serve(house, secret, Path(run) if run else None)
    return 0
