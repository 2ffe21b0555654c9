"""A unified diff of two texts, at a cost that stays bounded whatever the texts are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

CONTEXT_LINES = 3
# Above this many lines on either side a smallest diff could take minutes; then one hunk replaces all that differs.
SMALLEST_LINES = 400

# What difflib calls them: (what, from, to, from, to), lines of the old text and of the new.
_Change = tuple[str, int, int, int, int]


def unified(path: str, old: str | None, new: str) -> str:
    """Gives the diff from `old` (None: the file is new) to `new`, empty if their lines are the same."""
    before, after = _lines(old or ""), _lines(new)
    if before == after and old is not None:
        return ""
    source = "/dev/null" if old is None else f"a/{path}"
    hunks = (line for group in _groups(before, after) for line in _hunk(group, before, after))
    return "\n".join((f"--- {source}", f"+++ b/{path}", *hunks)) + "\n"


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _groups(before: Sequence[str], after: Sequence[str]) -> Iterable[Sequence[_Change]]:
    """Gives the changes of each hunk. What both texts begin and end with is taken off before difflib looks."""
    head = _shared(before, after)
    tail = _shared(before[head:][::-1], after[head:][::-1])
    old_end, new_end = len(before) - tail, len(after) - tail
    if head == old_end == new_end:
        return
    if max(old_end, new_end) - head > SMALLEST_LINES:
        above, below = min(head, CONTEXT_LINES), min(tail, CONTEXT_LINES)
        yield (
            ("equal", head - above, head, head - above, head),
            ("replace", head, old_end, head, new_end),
            ("equal", old_end, old_end + below, new_end, new_end + below),
        )
        return
    first = max(0, head - CONTEXT_LINES)
    ours, theirs = before[first : old_end + CONTEXT_LINES], after[first : new_end + CONTEXT_LINES]
    for group in difflib.SequenceMatcher(None, ours, theirs).get_grouped_opcodes(CONTEXT_LINES):
        yield [(what, i1 + first, i2 + first, j1 + first, j2 + first) for what, i1, i2, j1, j2 in group]


def _shared(one: Sequence[str], two: Sequence[str]) -> int:
    """Gives how many lines at the beginning are the same."""
    for number, (left, right) in enumerate(zip(one, two, strict=False)):
        if left != right:
            return number
    return min(len(one), len(two))


def _hunk(group: Sequence[_Change], before: Sequence[str], after: Sequence[str]) -> Iterable[str]:
    (_, old_start, _, new_start, _), (_, _, old_end, _, new_end) = group[0], group[-1]
    yield f"@@ -{_range(old_start, old_end)} +{_range(new_start, new_end)} @@"
    for what, i1, i2, j1, j2 in group:
        if what == "equal":
            yield from (f" {line}" for line in before[i1:i2])
            continue
        yield from (f"-{line}" for line in before[i1:i2])
        yield from (f"+{line}" for line in after[j1:j2])


def _range(start: int, end: int) -> str:
    return f"{start + 1 if end > start else start},{end - start}"
