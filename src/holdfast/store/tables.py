"""The schema: every table, constraint and index of Holdfast.

What the code must never do, the schema refuses: states outside the enums of `domain/`, numbers used twice, rows that
point nowhere, a second running step of a task, a rolled-back step made active again, a changed event.
DBOS's tables live in the same database and are not ours to touch.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
    func,
    text,
)

from holdfast.domain.checkpoint import CheckpointKind
from holdfast.domain.conversation import MessageRole, SnapshotKind
from holdfast.domain.history import EventType
from holdfast.domain.plan import ApprovalKind, GateName, GateOrder, PauseMode, PhaseMode, SupervisorMode
from holdfast.domain.task import Executor, FailureKind
from holdfast.domain.token import TokenScope
from holdfast.domain.transitions import ApprovalStatus, PauseReason, PhaseStatus, PlanStage, PlanStatus, TaskStatus
from holdfast.store.columns import Choice, ChoiceTuple, Json, Moment, Names, Permissions, Prose, Serial

SCHEMA = "holdfast"
LOCAL_OWNER = "local"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class WorkerKind(StrEnum):
    RUN = "run"
    SERVE = "serve"
    WORKER = "worker"


class OperationStatus(StrEnum):
    """`open` = its intent is written and its effects may be half done."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


class LogStream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"
    SYSTEM = "system"


def _id() -> Column[str]:
    return Column("id", String(36), primary_key=True)


def _to(target: str, name: str = "", *, null: bool = False, key: bool = False) -> Column[str]:
    singular = name or f"{target.removesuffix('s')}_id"
    return Column(singular, String(36), ForeignKey(f"{target}.id"), nullable=null, primary_key=key)


def _one_of(column: str, choices: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{choice}'" for choice in choices)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _text(name: str, default: str | None = None) -> Column[str]:
    if default is None:
        return Column(name, Prose, nullable=False)
    return Column(name, Prose, nullable=False, server_default=default)


def _count(name: str, default: int = 0, *, big: bool = False) -> Column[int]:
    return Column(name, BigInteger if big else Integer, nullable=False, server_default=str(default))


def _time(name: str, *, null: bool = False) -> Column[object]:
    return Column(name, Moment, nullable=null)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=false())


def _number() -> Column[int]:
    return Column("number", Integer, nullable=False)


def _positive(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} >= 1", name=f"{column}_positive")


def _budget() -> tuple[Column[float], Column[int], Column[float]]:
    return Column("max_seconds", Float), Column("max_tokens", BigInteger), Column("max_cost_usd", Float)


def _head() -> Column[str]:
    # No foreign key: messages point back here, and a circle of tables can be neither dumped nor loaded in an order.
    return Column("head_message_id", String(36))


owners = Table("owners", metadata, _id(), _text("name"), _time("created_at"))

# The next free short numbers of plans, tasks, approvals and the like: one row each, updated in place.
counters = Table(
    "counters", metadata, Column("name", String(40), primary_key=True), Column("value", BigInteger, nullable=False)
)

projects = Table(
    "projects",
    metadata,
    _id(),
    _number(),
    _to("owners"),
    _text("slug"),
    _text("path"),
    _text("home"),
    _text("default_branch"),
    Column("git", Boolean, nullable=False, server_default=text("true")),
    Column("settings", Json, nullable=False),
    _count("last_step"),
    _time("created_at"),
    _positive("number"),
    UniqueConstraint("number"),
    UniqueConstraint("owner_id", "slug"),
    UniqueConstraint("owner_id", "home", "path"),
    Index("ix_projects_owner_number", "owner_id", "number"),
)

plans = Table(
    "plans",
    metadata,
    _id(),
    _number(),
    _to("owners"),
    _to("projects"),
    _text("slug"),
    _text("title"),
    _text("description"),
    Column("status", Choice(PlanStatus), nullable=False),
    Column("stage", Choice(PlanStage), nullable=False),
    Column("pause_reason", Choice(PauseReason)),
    Column("stop", Choice(PauseMode)),
    _flag("cancel_requested"),
    _count("run"),
    _count("wakes", big=True),
    _text("branch"),
    _text("base_commit"),
    Column("gates", ChoiceTuple(GateName), nullable=False),
    Column("gate_order", Choice(GateOrder), nullable=False),
    _flag("review"),
    _text("review_agent", ""),
    _count("review_rounds", 2),
    Column("supervisor", Choice(SupervisorMode), nullable=False, server_default="off"),
    _text("supervisor_agent", ""),
    _text("context", ""),
    Column("verify", Names, nullable=False),
    *_budget(),
    Column("permissions", Permissions),
    Column("variables", Json, nullable=False),
    _text("spec"),
    _time("created_at"),
    _time("started_at", null=True),
    _time("ended_at", null=True),
    _text("error", ""),
    _time("deleted_at", null=True),
    _time("emptied_at", null=True),
    _head(),
    _positive("number"),
    _one_of("status", PlanStatus),
    _one_of("stage", PlanStage),
    _one_of("pause_reason", PauseReason),
    _one_of("stop", PauseMode),
    _one_of("gate_order", GateOrder),
    _one_of("supervisor", SupervisorMode),
    CheckConstraint("pause_reason IS NULL OR status = 'paused'", name="reason_only_when_paused"),
    CheckConstraint(
        "deleted_at IS NULL OR status NOT IN ('running', 'waiting', 'paused')", name="deleted_only_at_rest"
    ),
    CheckConstraint("emptied_at IS NULL OR deleted_at IS NOT NULL", name="emptied_only_when_deleted"),
    UniqueConstraint("number"),
    UniqueConstraint("project_id", "slug"),
    Index("ix_plans_owner_number", "owner_id", "number"),
    Index("ix_plans_project_number", "project_id", "number"),
    Index("ix_plans_status_number", "status", "number"),
)

phases = Table(
    "phases",
    metadata,
    _id(),
    _to("plans"),
    _count("position"),
    _text("title"),
    Column("mode", Choice(PhaseMode), nullable=False),
    _flag("pause_after"),
    _text("when", ""),
    Column("status", Choice(PhaseStatus), nullable=False),
    _count("review_round"),
    _time("started_at", null=True),
    _time("ended_at", null=True),
    _one_of("mode", PhaseMode),
    _one_of("status", PhaseStatus),
    UniqueConstraint("plan_id", "position"),
)

tasks = Table(
    "tasks",
    metadata,
    _id(),
    _number(),
    _to("plans"),
    _to("phases"),
    _text("key"),
    _count("position"),
    _text("title"),
    _text("instructions"),
    Column("executor", Choice(Executor), nullable=False),
    _text("command"),
    _text("agent"),
    _count("max_attempts", 3),
    Column("timeout_seconds", Float),
    Column("verify", Names, nullable=False),
    _flag("retryable"),
    *_budget(),
    Column("permissions", Permissions),
    Column("status", Choice(TaskStatus), nullable=False),
    _count("attempt"),
    _count("run"),
    _count("claim"),
    Column("claimed_by", String(36), ForeignKey("workers.id")),
    _text("branch", ""),
    _count("head_checkpoint"),
    _head(),
    _time("retry_at", null=True),
    _flag("approved"),
    _flag("read_only"),
    _to("tasks", "contestant_of", null=True),
    _text("fork_point", ""),
    # Where its conversation was last put (a fork, a rewind): what a new session of its agent goes on from.
    Column("start_message_id", String(36)),
    _text("context", ""),
    Column("failure", Choice(FailureKind)),
    _text("error", ""),
    _time("started_at", null=True),
    _time("ended_at", null=True),
    _positive("number"),
    _positive("max_attempts"),
    _one_of("executor", Executor),
    _one_of("status", TaskStatus),
    _one_of("failure", FailureKind),
    UniqueConstraint("number"),
    UniqueConstraint("plan_id", "key"),
    Index("ix_tasks_phase_position", "phase_id", "position"),
    Index("ix_tasks_status_number", "status", "number"),
    Index("ix_tasks_claimed_by", "claimed_by"),
    Index("ix_tasks_contestant_of", "contestant_of"),
)

task_dependencies = Table(
    "task_dependencies",
    metadata,
    _to("tasks", key=True),
    _to("tasks", "depends_on_id", key=True),
    _count("position"),
    CheckConstraint("task_id <> depends_on_id", name="not_itself"),
    Index("ix_task_dependencies_depends_on", "depends_on_id"),
)

steps = Table(
    "steps",
    metadata,
    _id(),
    _number(),
    _to("projects"),
    _to("plans"),
    _to("tasks"),
    _to("steps", "parent_step_id", null=True),
    _count("attempt"),
    _count("run"),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    _text("branch"),
    _text("commit_before"),
    Column("commit_after", Prose),
    Column("agent_config", Json, nullable=False),
    _time("started_at"),
    _time("ended_at", null=True),
    Column("exit_code", Integer),
    _flag("interrupted"),
    Column("failure", Choice(FailureKind)),
    _text("error", ""),
    _count("restarts"),
    Column("idle_seconds", Float, nullable=False, server_default="0"),
    Column("cpu_seconds", Float, nullable=False, server_default="0"),
    _count("peak_memory_bytes", big=True),
    _count("tokens", big=True),
    Column("cost_usd", Float, nullable=False, server_default="0"),
    _count("files_changed"),
    _count("bytes_changed", big=True),
    Column("details", Json, nullable=False),
    _positive("number"),
    _one_of("failure", FailureKind),
    CheckConstraint("ended_at IS NULL OR exit_code IS NOT NULL OR interrupted OR failure IS NOT NULL", name="end_told"),
    CheckConstraint("ended_at IS NOT NULL OR exit_code IS NULL", name="exit_has_end"),
    UniqueConstraint("project_id", "number"),
    UniqueConstraint("task_id", "run"),
    Index("ix_steps_plan_number", "plan_id", "number"),
    Index("ix_steps_task_number", "task_id", "number"),
    Index("ix_steps_parent", "parent_step_id"),
    Index("ix_steps_branch", "project_id", "branch", "number"),
    Index(
        "uq_steps_running",
        "task_id",
        unique=True,
        sqlite_where=text("active AND ended_at IS NULL AND NOT interrupted"),
        postgresql_where=text("active AND ended_at IS NULL AND NOT interrupted"),
    ),
)

# How far each launch's journal has been taken in: written with the rows taken from it, so none comes twice.
journals = Table(
    "journals",
    metadata,
    _to("steps", key=True),
    Column("launch", String(80), primary_key=True),
    _count("last_record", big=True),
    # The usage of the agent's session by then: heard of, and put on messages.
    Column("usage", Json),
)

messages = Table(
    "messages",
    metadata,
    _id(),
    _to("plans"),
    _to("tasks", null=True),
    _to("steps", null=True),
    _to("messages", "parent_id", null=True),
    _count("position"),
    Column("role", Choice(MessageRole), nullable=False),
    _text("content"),
    _time("at"),
    _flag("thought"),
    Column("tool_calls", Json, nullable=False),
    Column("tool_name", Prose),
    Column("tool_input", Json),
    Column("tool_result", Prose),
    Column("result_blob", String(64), ForeignKey("blobs.digest")),
    _flag("is_error"),
    _count("token_count", big=True),
    Column("cost_usd", Float, nullable=False, server_default="0"),
    _count("tokens_so_far", big=True),
    Column("cost_so_far", Float, nullable=False, server_default="0"),
    _one_of("role", MessageRole),
    Index("ix_messages_task", "task_id", "position", "id"),
    Index("ix_messages_plan", "plan_id", "position", "id"),
    Index("ix_messages_parent", "parent_id"),
)

conversation_snapshots = Table(
    "conversation_snapshots",
    metadata,
    _id(),
    _to("plans"),
    _to("tasks", null=True),
    _to("messages", null=True),
    Column("kind", Choice(SnapshotKind), nullable=False),
    _text("name", ""),
    _count("message_count"),
    _count("token_count", big=True),
    Column("cost_usd", Float, nullable=False, server_default="0"),
    _time("created_at"),
    _one_of("kind", SnapshotKind),
    Index("ix_conversation_snapshots_task", "task_id", "id"),
    Index("ix_conversation_snapshots_plan", "plan_id", "id"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _id(),
    _number(),
    _to("plans"),
    _to("tasks", null=True),
    _to("steps", null=True),
    Column("kind", Choice(CheckpointKind), nullable=False),
    _text("name"),
    _text("ref"),
    _text("commit"),
    _text("tree"),
    _text("head_commit"),
    _to("messages", null=True),
    Column("state", Json, nullable=False),
    Column("skipped", Names, nullable=False),
    Column("busy", Names, nullable=False),
    _time("created_at"),
    _flag("superseded"),
    Column("details", Json, nullable=False),
    _positive("number"),
    _one_of("kind", CheckpointKind),
    CheckConstraint("task_id IS NOT NULL OR kind <> 'step'", name="step_has_task"),
    Index(
        "uq_checkpoints_task_number",
        "task_id",
        "number",
        unique=True,
        sqlite_where=text("task_id IS NOT NULL"),
        postgresql_where=text("task_id IS NOT NULL"),
    ),
    Index(
        "uq_checkpoints_plan_number",
        "plan_id",
        "number",
        unique=True,
        sqlite_where=text("task_id IS NULL"),
        postgresql_where=text("task_id IS NULL"),
    ),
    Index("ix_checkpoints_plan", "plan_id", "id"),
    Index("ix_checkpoints_step", "step_id"),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    # The transaction that wrote the row (0 on SQLite, where ids commit in order): what a follower orders by.
    Column("tx", BigInteger, nullable=False, server_default="0"),
    _time("at"),
    _to("owners"),
    _to("projects", null=True),
    _to("plans", null=True),
    # What an edit removed stays named in the history, so these two point to rows that may be gone.
    Column("phase_id", String(36)),
    Column("task_id", String(36)),
    _to("steps", null=True),
    Column("type", Choice(EventType), nullable=False),
    _text("subtype"),
    _text("actor"),
    Column("data", Json, nullable=False),
    _one_of("type", EventType),
    # Followed by transaction; listed by time, with an index for each column that filters (`store.events`).
    Index("ix_events_tx", "tx", "id"),
    Index("ix_events_owner", "owner_id", "at", "id"),
    Index("ix_events_project", "project_id", "at", "id"),
    Index("ix_events_plan", "plan_id", "at", "id"),
    Index("ix_events_phase", "phase_id", "at", "id"),
    Index("ix_events_task", "task_id", "at", "id"),
    Index("ix_events_step", "step_id", "at", "id"),
    Index("ix_events_type", "type", "at", "id"),
    Index("ix_events_subtype", "subtype", "at", "id"),
    Index("ix_events_actor", "actor", "at", "id"),
    sqlite_autoincrement=True,
)

approvals = Table(
    "approvals",
    metadata,
    _id(),
    _number(),
    _to("plans"),
    Column("kind", Choice(ApprovalKind), nullable=False),
    Column("status", Choice(ApprovalStatus), nullable=False),
    _text("title"),
    _text("subject", ""),
    _to("phases", null=True),
    _to("tasks", null=True),
    _time("opened_at"),
    _time("decided_at", null=True),
    _text("decided_by", ""),
    _text("comment", ""),
    Column("details", Json, nullable=False),
    _positive("number"),
    _one_of("kind", ApprovalKind),
    _one_of("status", ApprovalStatus),
    CheckConstraint("(status = 'open') = (decided_at IS NULL)", name="decided_has_time"),
    UniqueConstraint("number"),
    Index("ix_approvals_plan", "plan_id", "number"),
    Index("ix_approvals_status", "status", "number"),
)
Index(
    "uq_approvals_open",
    approvals.c.plan_id,
    approvals.c.kind,
    func.coalesce(approvals.c.phase_id, ""),
    func.coalesce(approvals.c.task_id, ""),
    approvals.c.subject,
    unique=True,
    sqlite_where=text("status = 'open'"),
    postgresql_where=text("status = 'open'"),
)

iterations = Table(
    "iterations",
    metadata,
    _id(),
    _number(),
    _to("plans"),
    _text("kind"),
    _text("author"),
    Column("content", Json, nullable=False),
    _time("created_at"),
    _positive("number"),
    UniqueConstraint("plan_id", "number"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    _count("size", big=True),
    _count("stored_size", big=True),
    _time("created_at"),
)

file_snapshots = Table(
    "file_snapshots",
    metadata,
    _to("checkpoints", key=True),
    Column("path", Prose, primary_key=True),
    Column("mode", Integer, nullable=False),
    Column("digest", String(64), ForeignKey("blobs.digest"), nullable=False),
    Index("ix_file_snapshots_digest", "digest"),
)

metrics = Table(
    "metrics",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    _to("plans"),
    _to("steps", null=True),
    _text("name"),
    Column("value", Float, nullable=False),
    _text("unit", ""),
    _time("at"),
)
Index("uq_metrics_name", metrics.c.plan_id, func.coalesce(metrics.c.step_id, ""), metrics.c.name, unique=True)

logs = Table(
    "logs",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    _to("steps"),
    Column("stream", Choice(LogStream), nullable=False),
    _time("at"),
    _text("text"),
    _one_of("stream", LogStream),
    Index("ix_logs_step", "step_id", "id"),
    sqlite_autoincrement=True,
)

operations = Table(
    "operations",
    metadata,
    _id(),
    _number(),
    _to("plans", null=True),
    _to("tasks", null=True),
    _text("kind"),
    _text("actor"),
    Column("status", Choice(OperationStatus), nullable=False),
    Column("intent", Json, nullable=False),
    Column("outcome", Json, nullable=False),
    _time("started_at"),
    _time("ended_at", null=True),
    _one_of("status", OperationStatus),
    _positive("number"),
    CheckConstraint("(status = 'open') = (ended_at IS NULL)", name="ended_has_time"),
    UniqueConstraint("number"),
    Index("ix_operations_plan", "plan_id", "id"),
    Index("ix_operations_status", "status", "id"),
)

workers = Table(
    "workers",
    metadata,
    _id(),
    _text("host"),
    Column("pid", Integer, nullable=False),
    Column("kind", Choice(WorkerKind), nullable=False),
    _text("home"),
    _text("version"),
    _time("started_at"),
    _time("seen_at"),
    _time("stopped_at", null=True),
    _one_of("kind", WorkerKind),
    Index("ix_workers_stopped", "stopped_at", "id"),
)

# What lets programs and agents in. An agent's token is bound to its task or plan, and dies with its step.
tokens = Table(
    "tokens",
    metadata,
    _id(),
    _number(),
    _to("owners"),
    Column("digest", String(64), nullable=False),
    _text("name", ""),
    Column("scope", Choice(TokenScope), nullable=False),
    _to("plans", null=True),
    _to("tasks", null=True),
    _to("steps", null=True),
    _time("created_at"),
    _text("created_by"),
    _time("expires_at", null=True),
    _time("revoked_at", null=True),
    _time("last_used_at", null=True),
    _positive("number"),
    _one_of("scope", TokenScope),
    CheckConstraint("(scope IN ('plan', 'task')) = (plan_id IS NOT NULL)", name="bound_to_plan"),
    CheckConstraint("(scope = 'task') = (task_id IS NOT NULL)", name="bound_to_task"),
    UniqueConstraint("number"),
    UniqueConstraint("digest"),
    Index("ix_tokens_step", "step_id"),
)
