"""Redaction: secrets are gone whatever their form and the cuts of the stream, and ordinary text is left alone."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents.shim.redact import LONGEST_HELD, Redactor, Stream

ROOT = Path(__file__).parents[2]
# Put together here, so that this file is no false alarm for those who look for secrets in repositories.
LETTERS = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6"
KNOWN = {
    "aws_access_key": "AKIA" + "IOSFODNN7EXAMPLE",
    "github_token": "ghp_" + LETTERS[:36],
    "github_token ": "github_pat_" + LETTERS[:22] + "_" + (LETTERS * 2)[:59],
    "gitlab_token": "glpat-" + LETTERS[:20],
    "anthropic_key": "sk-ant-" + "api03-" + LETTERS + "-" + LETTERS[:30],
    "openai_key": "sk-" + LETTERS[:48],
    "openai_key ": "sk-proj-" + LETTERS[:20] + "_" + LETTERS + "-x",
    "google_key": "AIza" + "Sy" + LETTERS[:33],
    "slack_token": "xoxb-" + "123456789012-1234567890123-" + LETTERS[:24],
    "stripe_key": "sk_live_" + LETTERS[:24],
    "npm_token": "npm_" + LETTERS[:36],
    "pypi_token": "pypi-" + "AgEIcHlwaS5vcmc" + LETTERS,
    "jwt": ".".join(("eyJ" + "hbGciOiJIUzI1NiJ9", "eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0", LETTERS[:43])),
    "private_key": "-----BEGIN RSA " + "PRIVATE KEY-----\n" + (LETTERS + "\n") * 40 + "-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("around", ["{}", "key={}\n", '"{}"', "\t{}, and", "https://x/?k={}&b", '{{"a": "\\n{}"}}'])
def test_known_kinds_are_taken_out(kind: str, around: str) -> None:
    mark = f"[redacted:{kind.strip()}]"
    assert Redactor().text(around.format(KNOWN[kind])) == around.format(mark)


@pytest.mark.parametrize("kind", KNOWN)
def test_what_only_looks_similar_is_left(kind: str) -> None:
    for text in (KNOWN[kind][:14], KNOWN[kind].swapcase(), f"{KNOWN[kind][:7]}\n{KNOWN[kind][8:]}"):
        if text != KNOWN[kind] and "BEGIN" not in text:
            assert Redactor().text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a task-" + LETTERS + " and the disk-" + LETTERS,
        "sk-estimator-doc-link-fitted-and-some-more-words",
        "AKIA" + "IOSFODNN7EXAMPLEANDMUCHMORE",
        "eyJ" + LETTERS,
        "-----BEGIN PUBLIC KEY-----\n" + LETTERS + "\n-----END PUBLIC KEY-----",
        "commit 61af282f0c5d6e7f8091a2b3c4d5e6f708192a3b",
    ],
)
def test_ordinary_text_survives(text: str) -> None:
    assert Redactor().text(text) == text


def test_nothing_of_this_repository_is_taken_for_a_secret() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    redactor, looked = Redactor({"X": "not in any of the sources " + "at all"}), 0
    for name in filter(None, listed.split("\0")):
        content = (ROOT / name).read_bytes()
        assert redactor.content(content) == content, name
        looked += len(content)
    assert looked > 500_000


def test_injected_values_are_taken_out_in_every_form() -> None:
    value = 'pa"ss\\wörd\n✓'
    redactor = Redactor({"DB_PASSWORD": value, "SHORT": "on"})
    forms = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    forms.append(json.dumps(json.dumps(value))[3:-3])
    for form in forms:
        assert redactor.text(f"<{form}> on") == "<[redacted:DB_PASSWORD]> on"
    for offset in range(3):
        coded = base64.b64encode(b"x" * offset + value.encode() + b"yz").decode()
        assert "[redacted:DB_PASSWORD]" in redactor.text(coded)


def test_what_is_longer_than_a_stream_holds_back_is_swallowed_to_its_end() -> None:
    begin = "-----BEGIN " + "PRIVATE KEY-----\n"
    stream = Redactor()
    for size in (1000, 70_000):
        out, fed = [], Stream(stream)
        text = (begin + (LETTERS + "\n") * 2000 + '" and on').encode()
        out = [fed.feed(text[start : start + size]) for start in range(0, len(text), size)]
        assert b"".join([*out, fed.end()]) == b'[redacted:private_key]" and on'


def test_what_is_held_back_is_bounded_and_a_line_that_is_done_is_given_at_once() -> None:
    fed = Stream(Redactor({"A_TOKEN": "correct horse battery"}))
    assert fed.feed(b'{"id": 1}\n') == b'{"id": 1}\n'
    assert fed.feed(b"a correct ho") == b"a "
    assert fed.feed(b"use\n") == b"correct house\n"
    given_back = sum(len(fed.feed(b"eyJ" + b"x" * 997)) for _ in range(100))
    assert given_back > 100_000 - 2 * LONGEST_HELD


VALUES = st.text(alphabet='ab\\"\n/u0é𝄞', min_size=6, max_size=12)
PIECES = st.text(alphabet='ab\\"\n/u0é𝄞 x', max_size=12)


@given(value=VALUES, pieces=st.lists(PIECES, min_size=1, max_size=4), ascii_only=st.booleans(), data=st.data())
def test_lines_of_json_stay_json_and_hold_no_secret_wherever_they_are_cut(
    value: str, pieces: list[str], ascii_only: bool, data: st.DataObject
) -> None:
    document = {"text": value.join(pieces), "more": [value.join(reversed(pieces)), {"k": pieces}]}
    text = (json.dumps(document, ensure_ascii=ascii_only) + "\n").encode()
    redactor = Redactor({"THE_SECRET": value})
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    fed = Stream(redactor)
    out = b"".join(fed.feed(text[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True))
    out += fed.end()
    read = json.loads(out)
    assert value not in read["text"]
    if len(pieces) > 1:
        assert "[redacted:THE_SECRET]" in read["text"]


def test_what_may_begin_in_the_middle_of_an_escape_is_held_from_its_begin() -> None:
    redactor, text = Redactor({"X": "nothing-else"}), b"one\\nothing-else"
    fed = Stream(redactor)
    assert fed.feed(text[:10]) + fed.feed(text[10:]) + fed.end() == redactor.content(text) == b"one[redacted:X]"


@given(value=st.binary(min_size=8, max_size=20), pieces=st.lists(st.binary(max_size=20), max_size=4), data=st.data())
def test_a_stream_gives_what_the_whole_gives(value: bytes, pieces: list[bytes], data: st.DataObject) -> None:
    secret = value.decode("latin-1")
    redactor = Redactor({"X": secret})
    text = secret.encode().join(pieces) + KNOWN["github_token"].encode().join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    fed = Stream(redactor)
    out = b"".join(fed.feed(text[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True))
    assert out + fed.end() == redactor.content(text)
