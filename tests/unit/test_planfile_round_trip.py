from __future__ import annotations

import contextlib
from itertools import count
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.builders import NOW

from holdfast.domain import permissions
from holdfast.domain.budget import Budget
from holdfast.domain.permissions import Policy, PolicyWord, Rule, Verdict
from holdfast.domain.plan import GateName, GateOrder, PhaseMode
from holdfast.domain.planfile import Defaults, PhaseSpec, PlanFile, TaskSpec, from_domain, parse, render, to_domain
from holdfast.domain.variables import places
from holdfast.domain.words import slug
from holdfast.errors import UsageError

# Every character that a plan may have: no control characters but tab and line feed, no lone surrogates.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from(
    "\t\n "
)
TEXTS = (
    st.text(CHARACTERS, max_size=60)
    | st.text(st.sampled_from("ab \n\t#:-|>'\"{}[]&*!%@`\\,?~="), max_size=30)
    | st.sampled_from(
        ["true", "null", "~", "yes", "1.10", "0x1F", "2026-01-01", "- a", "a: b", "a #b", "---", "...", "<<"]
    )
    | st.lists(st.sampled_from(["make test", "", "  echo hi", "\techo", "# no", "a: b", "end  "])).map("\n".join)
)
WRITTEN = TEXTS.filter(lambda text: text.strip() != "" and not list(places(text)))
LINES = TEXTS.map(lambda text: " ".join(text.split())[:200].strip()).filter(bool)
KEYS = st.from_regex(r"[a-zA-Z0-9é日](?:[\w.-]{0,20}\w)?", fullmatch=True)
SECONDS = st.floats(0.001, 366 * 86400.0) | st.integers(1, 10**6).map(float)
BUDGETS = st.builds(
    Budget,
    st.none() | SECONDS,
    st.none() | st.integers(1, 10**15),
    st.none() | st.floats(1e-9, 1e12),
)
PATTERNS = st.just("") | TEXTS.filter(str.strip)
POLICIES = st.none() | st.builds(
    Policy,
    st.lists(
        st.builds(Rule, st.sampled_from(Verdict), st.sampled_from(permissions.KINDS), PATTERNS, PATTERNS), max_size=3
    ).map(tuple),
    st.none() | st.sampled_from(PolicyWord),
).filter(lambda policy: policy != Policy())
SLUGS = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+){0,3}", fullmatch=True).filter(lambda text: len(text) <= 60)
CONDITIONS = st.sampled_from(["", "true", "not false", 'variables.NAME == "a b"', "(true or\n false)", "'x' == '\\''"])


@st.composite
def phases(draw: st.DrawFn) -> tuple[PhaseSpec, ...]:
    known: list[str] = []
    found: list[PhaseSpec] = []
    for _ in range(draw(st.integers(1, 3))):
        tasks: list[TaskSpec] = []
        for _ in range(draw(st.integers(1, 3))):
            title = draw(LINES)
            key = draw(st.sampled_from([slug(title)]) | KEYS)
            if not key or key in known:
                key = f"task-{len(known)}"
            runs = draw(st.booleans())
            tasks.append(
                TaskSpec(
                    key=key,
                    title=title,
                    instructions="" if runs else draw(WRITTEN),
                    run=draw(WRITTEN) if runs else "",
                    agent="" if runs else draw(st.just("") | LINES),
                    depends_on=tuple(draw(st.lists(st.sampled_from(known), unique=True, max_size=3))) if known else (),
                    max_attempts=draw(st.none() | st.integers(1, 100)),
                    timeout_seconds=draw(st.none() | SECONDS),
                    verify=tuple(draw(st.lists(WRITTEN, max_size=2))),
                    retryable=draw(st.none() | st.booleans()),
                    budget=draw(BUDGETS),
                    permissions=None if runs else draw(POLICIES),
                )
            )
            known.append(key)
        found.append(
            PhaseSpec(
                title=draw(LINES),
                tasks=tuple(tasks),
                mode=draw(st.sampled_from(PhaseMode)),
                pause_after=draw(st.booleans()),
                when=draw(CONDITIONS),
            )
        )
    return tuple(found)


PLANS = st.builds(
    PlanFile,
    title=LINES,
    phases=phases(),
    description=st.just("") | WRITTEN,
    slug=st.just("") | SLUGS,
    base=st.sampled_from(["", "main", "feature/é", "4f2a", "1.10"]),
    gates=st.lists(st.sampled_from(GateName), unique=True).map(tuple),
    gate_order=st.sampled_from(GateOrder),
    review=st.booleans(),
    verify=st.lists(WRITTEN, max_size=2).map(tuple),
    budget=BUDGETS,
    variables=st.dictionaries(st.sampled_from(["A", "b_2", "true", "_"]), TEXTS).map(
        lambda found: {**found, "NAME": "x"}
    ),
    agent=st.just("") | LINES,
    permissions=POLICIES,
    defaults=st.builds(Defaults, st.none() | st.integers(1, 100), st.none() | SECONDS, st.none() | st.booleans()),
)


@settings(max_examples=80, deadline=None)
@given(PLANS)
def test_what_is_written_reads_as_the_same_plan(plan: PlanFile) -> None:
    assert parse(render(plan), source="plan.yaml") == plan


@settings(max_examples=40, deadline=None)
@given(PLANS)
def test_a_stored_plan_is_exported_as_a_plan_file_that_makes_the_same_rows(plan: PlanFile) -> None:
    def rows(planfile: PlanFile) -> Any:
        numbers = count(1)
        return to_domain(planfile, ids=lambda: f"id-{next(numbers)}", project_id="project", created_at=NOW)

    exported = parse(render(from_domain(*rows(plan))), source="export")
    stored, stored_phases, stored_tasks = rows(plan)
    again, again_phases, again_tasks = rows(exported)
    assert (again_phases, again_tasks) == (stored_phases, stored_tasks)
    for name in ("title", "description", "slug", "gates", "gate_order", "review", "verify", "budget", "variables"):
        assert getattr(again, name) == getattr(stored, name)
    assert render(from_domain(again, again_phases, again_tasks)) == render(exported)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80) | st.text(st.sampled_from("title: phas-\n[]{}&*a!|>'\"\t#%"), max_size=60))
@example("a: &a [*a]")
@example("? ? ?\n")
@example("- - - -\n  -")
@example("!!binary x")
@example("%YAML 1.1\n---\ntitle: x")
@example("title: !!int x")
@example("title: T\rphases:\r- title: P\r  when: |\r    true and\r  tasks: [{title: A, run: x}]\r")
@example(
    "%YAML 1.1\n---\ntitle: T\nphases:\n- title: \u2028P\n  when: |\u2028    true\u2028  tasks: [{title: A, run: x}]"
)
@example("{? [], ? {}: }")
@example("\ufeff\ufefftitle: x")
def test_any_text_is_a_plan_or_one_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse(text, source="plan.yaml")
