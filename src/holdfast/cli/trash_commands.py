"""`trash`: plans that were deleted."""

from __future__ import annotations

from holdfast.cli.grammar import noun
from holdfast.cli.session import Session

trash = noun("trash", example="holdfast trash list", help="The trash: plans that were deleted, and may come back.")


@trash.verb("list", example="holdfast trash list")
def list_(session: Session) -> int:
    """List the plans in the trash, and until when they may come back.

    `holdfast undo` and the name in the first column brings one back; `holdfast gc` takes those away whose time is over.
    """
    from holdfast.app import trash as verbs
    from holdfast.cli.render import safe, say, show, table, when

    with session.house() as house:
        found = verbs.list_(house)
    if session.json:
        session.document({"items": found, "next_cursor": None})
    elif not found:
        say(session.out, "the trash is empty")
    else:
        rows = [
            [each.operation, f"P{each.plan.number}", safe(each.plan.title), when(each.since), when(each.until)]
            for each in found
        ]
        show(session.out, table(["operation", "plan", "title", "deleted", "kept until"], rows))
    return 0
