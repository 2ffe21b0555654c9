"""Every sandbox that runs on this machine, each with a worktree of its own; the others are skipped visibly."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.conftest import make_run, pytest_pyfunc_call, run  # noqa: F401 - fixtures and hook for coroutines
from tests.agents.runs import Run
from tests.sandbox.boxes import IMAGE, Box, confinement_of, podman_problem

from holdfast.sandbox import Sandbox, made, named


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> str:
    return podman_problem(tmp_path_factory.mktemp("podman"))


def working(name: str, problem: str = "") -> Sandbox:
    sandbox = made(named(name), IMAGE)
    if problem := problem or sandbox.refusal():
        pytest.skip(problem)
    return sandbox


@pytest.fixture(params=["bubblewrap", "podman"])
def box(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> Iterator[Box]:  # noqa: F811
    """A box of each sandbox that works here."""
    problem = request.getfixturevalue("podman") if request.param == "podman" else ""
    sandbox = working(request.param, problem)
    yield Box(sandbox, run, confinement_of(run, tmp_path, programs=request.param == "podman"))
    sandbox.end(run.token)


@pytest.fixture
def wrapped(run: Run, tmp_path: Path) -> Box:  # noqa: F811
    """A box of bubblewrap."""
    return Box(working("bubblewrap"), run, confinement_of(run, tmp_path, programs=False))


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a web server on this machine's loopback that answers `served` to everything."""

    class Served(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"served")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
