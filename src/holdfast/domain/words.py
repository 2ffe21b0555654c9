"""Names made of titles, and guesses at what a misspelt word was meant to be."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

MAX_SLUG = 60


def slug(text: str, *, ascii_only: bool = False) -> str:
    """Gives `text` as lower-case words joined by hyphens, at most 60 characters; empty if it has no letter or digit.

    With `ascii_only` accents go and other scripts are left out, so that the result can name a git branch anywhere.
    """
    if ascii_only:
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:MAX_SLUG].strip("-")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Gives a hint that names the nearest of the known words, else all of them if they are few, else nothing."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= 20 else ""
