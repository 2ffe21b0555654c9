"""What a drafter is told of a project: made of plain values, bounded, and honest about what is cut.

Nothing here reads a file: `words` and `choose` say which contents are wanted, the caller brings them, and `describe`
writes the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

MAX_WORDS = 12
MAX_FILES = 16
MAX_FILE_BYTES = 40_000
# Of the whole length; what one section does not use, the ones after it may.
_TREE_SHARE = 0.35
_FILE_SHARE = 0.5

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{3,}")
_STOP = frozenset(
    "about after again also another because been before being both cannot could does done down each every from have "  # noqa: SIM905
    "into just like made make makes more most much must need needs only other over please same should some such than "
    "that their them then there these they this those through under until upon using very want wants were what when "
    "where which while will with without would your code file files test tests function functions project".split()
)
_README = re.compile(r"readme(\.(md|rst|txt|adoc))?", re.IGNORECASE)
# Contents of files named so stay out of any prompt, also when the request names them.
_SECRET = re.compile(
    r"(\.env(\..+)?|.*\.(pem|key|p12|pfx|keystore|jks)|id_(rsa|dsa|ecdsa|ed25519)|\.(npmrc|netrc|pypirc|htpasswd)"
    r"|credentials(\..+)?|secrets?(\..+)?)",
    re.IGNORECASE,
)
_LANGUAGES = {
    "c": "C", "h": "C", "cc": "C++", "cpp": "C++", "hpp": "C++", "cs": "C#", "css": "CSS", "dart": "Dart",
    "ex": "Elixir", "go": "Go", "hs": "Haskell", "html": "HTML", "java": "Java", "js": "JavaScript",
    "jsx": "JavaScript", "kt": "Kotlin", "lua": "Lua", "mjs": "JavaScript",
    "php": "PHP", "pl": "Perl", "py": "Python", "rb": "Ruby",
    "rs": "Rust", "scala": "Scala", "sh": "Shell", "sql": "SQL", "swift": "Swift", "tf": "Terraform",
    "ts": "TypeScript", "tsx": "TypeScript", "vue": "Vue", "zig": "Zig",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a project. `files` are paths and sizes in bytes, `contents` are texts by path.

    `steps` are lines about recent runs, newest first. `cut` are sentences about what the caller left out.
    """

    name: str
    files: Mapping[str, int]
    contents: Mapping[str, str] = field(default_factory=dict[str, str])
    steps: Sequence[str] = ()
    cut: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """The text for the prompt, the files whose contents are in it, and sentences about what was cut."""

    text: str
    files: tuple[str, ...]
    cut: tuple[str, ...]


def words(request: str) -> tuple[str, ...]:
    """Gives the words of a request to look for in the files: no common ones, no short ones, each once, in its order."""
    found = (word for word in _WORD.findall(request) if word.lower() not in _STOP)
    return tuple(dict.fromkeys(found))[:MAX_WORDS]


def choose(request: str, files: Mapping[str, int], hits: Mapping[str, int]) -> tuple[str, ...]:
    """Gives the paths whose contents are worth telling, the most wanted first, at most 16.

    First the README at the top, then files that the request names (by path or by name), then those with the most of
    the request's words: in their path, or, as `hits` tells, in their text.
    """
    readme = [path for path in files if "/" not in path and _README.fullmatch(path)][:1]
    mentioned = set(re.findall(r"[\w./+-]*\w", request))
    named = [path for path in files if path in mentioned or PurePosixPath(path).name in mentioned]
    lowered = [word.lower() for word in words(request)]
    score = {path: hits.get(path, 0) + 2 * sum(word in path.lower() for word in lowered) for path in files}
    scored = sorted((path for path in files if score[path]), key=lambda path: (-score[path], files[path], path))
    wanted = dict.fromkeys([*readme, *sorted(named), *scored])
    return tuple(path for path in wanted if not is_secret(path))[:MAX_FILES]


def is_secret(path: str) -> bool:
    """Tells whether a file's name says that its content is nobody else's."""
    return _SECRET.fullmatch(PurePosixPath(path).name) is not None


def languages(files: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Gives the languages of the files and how many files each has, most first."""
    found = Counter(
        _LANGUAGES[suffix] for path in files if (suffix := PurePosixPath(path).suffix[1:].lower()) in _LANGUAGES
    )
    return tuple(found.most_common())


def describe(facts: Facts, limit: int) -> Context:
    """Gives the context in at most about `limit` characters; what is cut is said in it and listed."""
    cut = list(facts.cut)
    spoken = ", ".join(f"{name} ({count})" for name, count in languages(facts.files)[:8]) or "none known"
    parts = [f"Name: {facts.name}. Files: {len(facts.files)}. Languages by number of files: {spoken}."]
    if facts.steps:
        parts.append(_section("recent runs", "\n".join(facts.steps)[: max(0, limit // 10)]))
    parts.append(_section("files", _tree(facts.files, int(limit * _TREE_SHARE), cut)))
    left = max(int(limit * _FILE_SHARE), limit - sum(map(len, parts)))
    shown: list[str] = []
    for path, text in facts.contents.items():
        if is_secret(path):
            continue
        room = min(left, max(limit // 4, 1))
        if room < min(len(text), 200):
            cut.append(f"the content of {path} is left out")
            continue
        more = len(text) - room
        if more > 0:
            cut.append(f"the content of {path} is cut after {room:,} of {len(text):,} characters")
        parts.append(_section(f"file {path}", f"{text[:room]}\n[cut here: {more:,} more]" if more > 0 else text))
        shown.append(path)
        left -= min(len(text), room)
    if cut:
        parts.append("Not told: " + "; ".join(cut) + ".")
    return Context("\n\n".join(parts), tuple(shown), tuple(cut))


def _section(title: str, text: str) -> str:
    return f"BEGIN {title}\n{text.rstrip()}\nEND {title}"


def _tree(files: Mapping[str, int], room: int, cut: list[str]) -> str:
    """Writes all paths, or, where they do not fit, folders with the number of their files, as deep as fits."""
    lines = sorted(files)
    depth = max((path.count("/") for path in files), default=0)
    while depth > 0 and _length(lines) > room:
        lines = _folders(files, depth)
        depth -= 1
    if len(lines) == len(files) and _length(lines) <= room:
        return "\n".join(lines)
    shown: list[str] = []
    for line in lines:
        if _length(shown) + len(line) > room:
            break
        shown.append(line)
    cut.append(f"{len(files):,} files are too many to list: {len(shown):,} lines, most of them folders, stand for them")
    return "\n".join(shown)


def _length(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _folders(files: Mapping[str, int], depth: int) -> list[str]:
    """Gives the paths with all that lies `depth` folders deep, or deeper, put together under its folder."""
    found: Counter[str] = Counter()
    for path in files:
        folders = path.split("/")[:-1]
        found["/".join(folders[:depth]) + "/" if len(folders) >= depth else path] += 1
    return [f"{name} ({count:,} files)" if name.endswith("/") else name for name, count in sorted(found.items())]
