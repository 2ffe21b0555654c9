from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.variables import fill, places
from holdfast.errors import UsageError


def test_two_braces_around_a_name_are_replaced() -> None:
    assert fill("a {{ NAME }}{{OTHER}} b", {"NAME": "x", "OTHER": "y"}) == "a xy b"


@pytest.mark.parametrize(
    "text", ["$NAME", "${NAME}", "${{ secrets.NAME }}", "{{ .Names }}", "{{ NAME", "{ { NAME } }", "{{}}", "a}}b"]
)
def test_what_shells_and_templates_write_is_left_alone(text: str) -> None:
    assert fill(text, {"NAME": "x"}) == text
    assert list(places(text)) == []


def test_four_braces_stand_for_literal_ones() -> None:
    assert fill("{{{{ NAME }}}} {{ NAME }}", {"NAME": "x"}) == "{{ NAME }} x"
    assert [place.offset for place in places("{{{{ NAME }}}} {{ NAME }}")] == [15]


def test_a_value_is_not_looked_at_again() -> None:
    assert fill("{{ A }}", {"A": "{{ B }} \\1", "B": "no"}) == "{{ B }} \\1"


def test_an_undefined_variable_is_an_error() -> None:
    with pytest.raises(UsageError, match="'NAME' is not defined"):
        fill("{{ NAME }}", {})


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    names = {place.name for place in places(text)}
    assert isinstance(fill(text, dict.fromkeys(names, "")), str)
