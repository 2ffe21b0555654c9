"""Takes secrets out of what is about to be stored: values that Holdfast injects, and what looks like a known kind.

It works on bytes, on whole texts and on streams that may be cut anywhere, and it imports next to nothing: the shim pays
for every import at each start (see `lean`). So there are no regular expressions here; a known kind of secret is a
prefix that nothing else has, and then enough characters of its class.

What it leaves stays valid JSON where it was valid JSON: a replacement holds nothing that JSON escapes, and neither
begins nor ends in the middle of an escape.
"""

from __future__ import annotations

import binascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    # Begin, end (-1: nothing, or more of the stream must be seen to tell), name, and the class that may go on beyond.
    Found = tuple[int, int, str, bytes]

# Shorter values would take ordinary words out of every text.
SHORTEST_SECRET = 6
# A stream holds back at most so much of what may become a secret; what is longer and is one, is swallowed to its end.
LONGEST_HELD = 16 << 10
_LOOK_BACK = 64

_DIGITS = b"0123456789"
_UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALPHANUMERIC = _DIGITS + _UPPER + _UPPER.lower()
_TOKEN = _ALPHANUMERIC + b"_-"
_PEM = _ALPHANUMERIC + b"+/=\\ \r\n\t:,.-"


class Kind:
    """A known kind of secret: how it begins, the class of what follows, how much of it, with a digit in it or not.

    Where `word` is set it must not be the end of another word.
    """

    def __init__(
        self,
        name: str,
        prefixes: tuple[bytes, ...],
        characters: bytes,
        least: int,
        most: int = LONGEST_HELD,
        *,
        word: bool = False,
        ending: bytes = b"",
        dots: int = 0,
    ) -> None:
        self.name = name
        self.prefixes = prefixes
        self.characters = characters
        self.least = least
        self.most = most
        self.word = word
        self.ending = ending
        self.dots = dots


KINDS = (
    Kind("aws_access_key", (b"AKIA", b"ASIA"), _UPPER + _DIGITS, 16, 16),
    Kind("github_token", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), _ALPHANUMERIC, 36),
    Kind("github_token", (b"github_pat_",), _ALPHANUMERIC + b"_", 60),
    Kind("gitlab_token", (b"glpat-",), _TOKEN, 20),
    Kind("anthropic_key", (b"sk-ant-",), _TOKEN, 24, word=True),
    Kind("openai_key", (b"sk-proj-", b"sk-svcacct-", b"sk-admin-", b"sk-or-v1-"), _TOKEN, 32, word=True),
    Kind("openai_key", (b"sk-",), _ALPHANUMERIC, 32, word=True),
    Kind("google_key", (b"AIza",), _TOKEN, 35, 35),
    Kind("slack_token", (b"xoxb-", b"xoxp-", b"xoxa-", b"xoxr-", b"xoxs-"), _ALPHANUMERIC + b"-", 24),
    Kind("stripe_key", (b"sk_live_", b"rk_live_"), _ALPHANUMERIC, 24),
    Kind("npm_token", (b"npm_",), _ALPHANUMERIC, 36, word=True),
    Kind("pypi_token", (b"pypi-AgEIcHlwaS5vcmc",), _TOKEN, 40),
    Kind("holdfast_token", (b"hft_",), _DIGITS + b"abcdef", 64, 64),
    Kind("jwt", (b"eyJ",), _TOKEN + b".", 40, dots=2),
    *(
        Kind("private_key", (b"-----BEGIN " + what + b"PRIVATE KEY-----",), _PEM, 40, ending=b"PRIVATE KEY-----")
        for what in (b"", b"RSA ", b"EC ", b"DSA ", b"OPENSSH ", b"ENCRYPTED ")
    ),
)


class Redactor:
    """Replaces the values of `secrets` (by name, in every form they take) and known kinds by `[redacted:NAME]`."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        forms: dict[bytes, str] = {}
        for name, value in (secrets or {}).items():
            if len(value) >= SHORTEST_SECRET:
                for form in forms_of(value):
                    forms.setdefault(form, name)
        # The longest first: of two that begin at one place, the longer is taken.
        longest_first = sorted(forms.items(), key=lambda each: -len(each[0]))
        self.literals: list[tuple[bytes, str, Kind | None]] = [(form, name, None) for form, name in longest_first]
        self.literals += [(prefix, kind.name, kind) for kind in KINDS for prefix in kind.prefixes]
        # A text that ends with any other byte (a line's end, mostly) does not end with the beginning of a literal.
        self.unfinished = frozenset(b"".join(literal[:-1] for literal, _, _ in self.literals))

    def text(self, text: str) -> str:
        """Gives a whole text without its secrets."""
        return self.content(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def content(self, content: bytes) -> bytes:
        """Gives a whole content without its secrets."""
        if not any(literal in content for literal, _, _ in self.literals):
            return content
        stream = Stream(self)
        return stream.feed(content) + stream.end()


class Stream:
    """One stream, redacted as it comes; give all of it through `feed`, then `end`."""

    def __init__(self, redactor: Redactor) -> None:
        self._literals = redactor.literals
        self._unfinished = redactor.unfinished
        self._held = b""
        self._before = b""
        self._swallowed = b""

    def feed(self, chunk: bytes) -> bytes:
        """Gives what is safe to be stored by now."""
        return self._go(chunk, final=False)

    def end(self) -> bytes:
        """Gives the rest."""
        return self._go(b"", final=True)

    def _go(self, chunk: bytes, *, final: bool) -> bytes:
        if self._swallowed and chunk:
            chunk = chunk.lstrip(self._swallowed)
            self._swallowed = b"" if chunk else self._swallowed
        # What is out already is looked at again: it tells whether a word or an escape begins here.
        text, start = self._before + self._held + chunk, len(self._before)
        next_of: list[Found] = [(-1, -1, "", b"")] * len(self._literals)
        out: list[bytes] = []
        while start < len(text):
            begin, end, name, goes_on = self._first(text, start, next_of, final)
            if end < 0:
                if not final:
                    begin = max(start, _escape_around(text, begin))
                out.append(text[start:begin])
                start = begin
                break
            begin = max(start, _escape_around(text, begin))
            out += (text[start:begin], f"[redacted:{name}]".encode())
            if goes_on:
                end = len(text) - len(text[end:].lstrip(goes_on))
                self._swallowed = goes_on if end == len(text) and not final else b""
            start = max(begin, _escape_around(text, end))
        self._before, self._held = text[max(0, start - _LOOK_BACK) : start], text[start:]
        return b"".join(out)

    def _first(self, text: bytes, start: int, next_of: list[Found], final: bool) -> Found:
        """Gives the first secret from `start` on, or the place from which the text must be held back."""
        best = (len(text), -1, "", b"")
        for number, (literal, name, kind) in enumerate(self._literals):
            found = next_of[number]
            if found[0] < start:
                if kind is None:
                    at = text.find(literal, start)
                    found = (at, at + len(literal), name, b"") if at >= 0 else (len(text), -1, "", b"")
                else:
                    found = _of_kind(text, start, literal, kind, final)
                next_of[number] = found
            if found[0] < best[0]:
                best = found
        if not final:
            for place in self._ends(text, start, best[0]):
                best = (place, -1, "", b"")
        return best

    def _ends(self, text: bytes, start: int, stop: int) -> Iterator[int]:
        """Gives places before `stop`, each before the last, from which on the text may be the beginning of a secret."""
        escape = text.rfind(b"\\", max(start, len(text) - 5))
        if 0 <= escape < stop:
            stop = escape
            yield stop
        if text[-1] not in self._unfinished:
            return
        for literal, _, _ in self._literals:
            at = max(start, len(text) - len(literal) + 1)
            while (at := text.find(literal[:1], at, stop)) >= 0:
                if literal.startswith(text[at:]):
                    stop = at
                    yield stop
                    break
                at += 1


def _of_kind(text: bytes, start: int, prefix: bytes, kind: Kind, final: bool) -> Found:
    """Gives the first secret of a kind; it begins at the end of the text if there is none."""
    at = start - 1
    while (at := text.find(prefix, at + 1)) >= 0:
        if kind.word and _in_word(text, at):
            continue
        body = at + len(prefix)
        window = text[body : body + min(kind.most + 1, LONGEST_HELD)]
        size = len(window) - len(window.lstrip(kind.characters))
        if kind.ending and (closed := window.find(kind.ending, 0, size)) >= 0:
            return at, body + closed + len(kind.ending), kind.name, b""
        if body + size == len(text) and size <= kind.most and size < LONGEST_HELD and not final:
            return at, -1, "", b""
        if kind.dots:
            parts = window[:size].rstrip(b".").split(b".")
            if not _is_dotted(parts, kind.dots):
                # Only the last parts of the run can be one: a run is looked at twice, however often it begins.
                last = parts[-kind.dots - 1 :] if len(parts) > kind.dots + 1 else ()
                at = body + len(b".".join(parts)) - len(b".".join(last)) - 1
                continue
        if kind.least <= size <= kind.most:
            return at, body + size, kind.name, kind.characters
    return len(text), -1, "", b""


def _is_dotted(parts: list[bytes], dots: int) -> bool:
    """Tells whether these are the parts of a token: so many, of some length, the second one JSON too (RFC 7519)."""
    return len(parts) == dots + 1 and parts[1].startswith(b"eyJ") and all(len(part) >= 10 for part in parts)


def _in_word(text: bytes, at: int) -> bool:
    before = text[at - 1 : at]
    escaped = before in (b"n", b"r", b"t") and text[at - 2 : at - 1] == b"\\"
    return bool(before) and before in _TOKEN and not escaped


def _escape_around(text: bytes, place: int) -> int:
    """Gives where the JSON escape begins in the middle of which `place` is, else the place itself."""
    at = text.rfind(b"\\", max(0, place - 5), place)
    if at < 0:
        return place
    run = text[max(0, at + 1 - _LOOK_BACK) : at + 1]
    if (len(run) - len(run.rstrip(b"\\"))) % 2 == 0:
        return place
    length = 6 if text[at + 1 : at + 2] == b"u" else 2
    return at if place < at + length else place


def forms_of(value: str) -> Iterable[bytes]:
    """Gives the forms in which a value turns up: plain, escaped in JSON once and twice, in base64 at each offset."""
    once = {_escaped(value, ascii_only) for ascii_only in (False, True)}
    plain = {value, *once, *(_escaped(form, False) for form in once)}
    raw = value.encode("utf-8", "surrogatepass")
    coded = {form for offset in range(3) for form in _base64(raw, offset)}
    return {form.encode("utf-8", "surrogatepass") for form in plain} | coded


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def _escaped(text: str, ascii_only: bool) -> str:
    return "".join(_ESCAPES.get(character) or _coded(character, ascii_only) for character in text)


def _coded(character: str, ascii_only: bool) -> str:
    code = ord(character)
    if code >= 32 and (code < 127 or not ascii_only):
        return character
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _base64(raw: bytes, offset: int) -> Iterator[bytes]:
    """Gives what the value makes of a base64 text in which it begins at that offset, without what it shares."""
    coded = binascii.b2a_base64(b"\0" * offset + raw, newline=False)
    coded = coded[(0, 2, 3)[offset] :]
    if (offset + len(raw)) % 3:
        coded = coded.rstrip(b"=")[:-1]
    if len(coded) >= SHORTEST_SECRET:
        yield coded
        yield coded.replace(b"+", b"-").replace(b"/", b"_")
