from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.references import ById, ByName, ByNumber, CheckpointReference, Kind, parse, parse_checkpoint
from holdfast.errors import UsageError

ID = "01890A5D-AC96-774B-BCCE-B302099A8057"


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("P12", Kind.PLAN, ByNumber(Kind.PLAN, 12)),
        ("p12", Kind.PLAN, ByNumber(Kind.PLAN, 12)),
        ("12", Kind.PLAN, ByNumber(Kind.PLAN, 12)),
        (" T31 ", Kind.TASK, ByNumber(Kind.TASK, 31)),
        ("A3", Kind.APPROVAL, ByNumber(Kind.APPROVAL, 3)),
        ("7", Kind.STEP, ByNumber(Kind.STEP, 7)),
        ("#7", Kind.STEP, ByNumber(Kind.STEP, 7)),
        (ID, Kind.TASK, ById(ID.lower(), whole=True)),
        ("01890a5d-ac", Kind.STEP, ById("01890a5d-ac", whole=False)),
        ("install", Kind.TASK, ByName("install")),
        ("t31", Kind.PLAN, ByName("t31")),
        ("decade", Kind.TASK, ByName("decade")),
        ("größe-2", Kind.TASK, ByName("größe-2")),
    ],
)
def test_what_people_type_is_understood(text: str, kind: Kind, expected: object) -> None:
    assert parse(text, kind) == expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", Kind.PLAN),
        ("T31", Kind.PLAN),
        ("P0", Kind.PLAN),
        ("P99999999999999999999", Kind.STEP),
        ("9999999999999999999", Kind.TASK),
        ("nonsense", Kind.STEP),
        ("a b", Kind.TASK),
        ("../x", Kind.TASK),
        ("P١٢", Kind.STEP),
    ],
)
def test_anything_else_is_a_usage_error_with_an_example(text: str, kind: Kind) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, kind)
    assert caught.value.hint.startswith("e.g.")


def test_a_checkpoint_names_its_owner_and_its_number() -> None:
    assert parse_checkpoint("T31@4") == CheckpointReference(ByNumber(Kind.TASK, 31), 4)
    assert parse_checkpoint("P2@1") == CheckpointReference(ByNumber(Kind.PLAN, 2), 1)
    assert parse_checkpoint("install@4") == CheckpointReference(ByName("install"), 4)


@pytest.mark.parametrize("text", ["T31", "T31@", "T31@x", "@4", "T31@0", "T31@²"])
def test_a_broken_checkpoint_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_checkpoint(text)


@given(st.sampled_from([Kind.PLAN, Kind.TASK, Kind.APPROVAL, Kind.STEP]), st.integers(1, 2**63 - 1))
def test_a_number_is_written_as_it_is_read(kind: Kind, number: int) -> None:
    reference = ByNumber(kind, number)
    assert parse(str(reference), kind) == reference


@given(st.text(max_size=50), st.sampled_from(list(Kind)))
def test_any_text_is_either_understood_or_a_usage_error(text: str, kind: Kind) -> None:
    with contextlib.suppress(UsageError):
        parse(text, kind)
    with contextlib.suppress(UsageError):
        parse_checkpoint(text)
