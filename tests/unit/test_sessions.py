"""Which session a task goes on with: only one that knows what its conversation has, no less and no more."""

from __future__ import annotations

import pytest

from holdfast.domain.sessions import Beginning, KeptSession, Standing, Told, beginning

OWN = KeptSession("session-1", "task", "claude", "m5")
OTHERS = KeptSession("session-1", "original", "claude", "m5")


@pytest.mark.parametrize(
    ("standing", "kept", "expected"),
    [
        pytest.param(Standing("task", "claude"), None, Beginning("new", Told.TASK), id="nothing was said yet"),
        pytest.param(
            Standing("task", "claude", head="m9"), None, Beginning("new", Told.TASK), id="another attempt begins anew"
        ),
        pytest.param(
            Standing("task", "claude", head="m9", cut_off="session-1"),
            None,
            Beginning("load", Told.CUT_OFF, "session-1"),
            id="what was cut off is gone on with",
        ),
        pytest.param(
            Standing("task", "claude", head="m5", start="m5"),
            OWN,
            Beginning("load", Told.TAKEN_UP, "session-1", "m5"),
            id="the task's own session ends just there",
        ),
        pytest.param(
            Standing("task", "claude", head="m5", start="m5"),
            OTHERS,
            Beginning("fork", Told.FORKED, "session-1", "m5"),
            id="another task's session ends just there",
        ),
        pytest.param(
            Standing("task", "codex", head="m5", start="m5"),
            OWN,
            Beginning("new", Told.TASK, trunk="m5"),
            id="the session is another agent's",
        ),
        pytest.param(
            Standing("task", "claude", head="m5", start="m5"),
            None,
            Beginning("new", Told.TASK, trunk="m5"),
            id="no session ends there: its end was cut off, or it went on since",
        ),
        pytest.param(
            Standing("task", "claude", head="m5", start="m5", cut_off="session-7"),
            None,
            Beginning("new", Told.TASK, trunk="m5"),
            id="the one that was cut off knows what was taken back since",
        ),
        pytest.param(
            Standing("task", "claude", head="m9", start="m5", cut_off="session-2"),
            OWN,
            Beginning("load", Told.CUT_OFF, "session-2", "m5"),
            id="cut off after it went on from there",
        ),
        pytest.param(
            Standing("task", "claude", head="m9", start="m5"),
            OWN,
            Beginning("new", Told.TASK, trunk="m5"),
            id="another attempt after it went on from there",
        ),
        pytest.param(
            Standing("task", "claude", cut_off="session-7"),
            None,
            Beginning("new", Told.TASK),
            id="taken back to the beginning",
        ),
    ],
)
def test_how_a_session_begins(standing: Standing, kept: KeptSession | None, expected: Beginning) -> None:
    assert beginning(standing, kept) == expected
