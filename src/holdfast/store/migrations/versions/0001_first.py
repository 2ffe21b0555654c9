"""The first schema."""

# ruff: noqa: E501  (each CHECK is one literal)

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from holdfast.store.columns import Json, Moment, Serial

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes all tables, the triggers that guard history, and the local owner."""
    _tables()
    _triggers()
    _rows()


def _tables() -> None:
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("stored_size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blobs")),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "owners",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owners")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("home", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False),
        sa.Column("stopped_at", Moment(), nullable=True),
        sa.CheckConstraint("kind IN ('run', 'serve', 'worker')", name=op.f("ck_workers_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index("ix_workers_stopped", "workers", ["stopped_at", "id"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.String(length=36), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("home", sa.Text(), nullable=False),
        sa.Column("default_branch", sa.Text(), nullable=False),
        sa.Column("git", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("settings", Json(), nullable=False),
        sa.Column("last_step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_projects_number_positive")),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_projects_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("number", name=op.f("uq_projects_number")),
        sa.UniqueConstraint("owner_id", "home", "path", name=op.f("uq_projects_owner_id_home_path")),
        sa.UniqueConstraint("owner_id", "slug", name=op.f("uq_projects_owner_id_slug")),
    )
    op.create_index("ix_projects_owner_number", "projects", ["owner_id", "number"], unique=False)
    op.create_table(
        "plans",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("pause_reason", sa.String(), nullable=True),
        sa.Column("stop", sa.String(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("run", sa.Integer(), server_default="0", nullable=False),
        sa.Column("wakes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("base_commit", sa.Text(), nullable=False),
        sa.Column("gates", Json(), nullable=False),
        sa.Column("gate_order", sa.String(), nullable=False),
        sa.Column("review", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("review_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("review_rounds", sa.Integer(), server_default="2", nullable=False),
        sa.Column("supervisor", sa.String(), server_default="off", nullable=False),
        sa.Column("supervisor_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("context", sa.Text(), server_default="", nullable=False),
        sa.Column("verify", Json(), nullable=False),
        sa.Column("max_seconds", sa.Float(), nullable=True),
        sa.Column("max_tokens", sa.BigInteger(), nullable=True),
        sa.Column("max_cost_usd", sa.Float(), nullable=True),
        sa.Column("permissions", Json(), nullable=True),
        sa.Column("variables", Json(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("started_at", Moment(), nullable=True),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("deleted_at", Moment(), nullable=True),
        sa.Column("emptied_at", Moment(), nullable=True),
        sa.Column("head_message_id", sa.String(length=36), nullable=True),
        sa.CheckConstraint(
            "deleted_at IS NULL OR status NOT IN ('running', 'waiting', 'paused')",
            name=op.f("ck_plans_deleted_only_at_rest"),
        ),
        sa.CheckConstraint(
            "emptied_at IS NULL OR deleted_at IS NOT NULL", name=op.f("ck_plans_emptied_only_when_deleted")
        ),
        sa.CheckConstraint(
            "gate_order IN ('approve_then_review', 'review_then_approve')", name=op.f("ck_plans_gate_order")
        ),
        sa.CheckConstraint("supervisor IN ('off', 'suggest', 'replan')", name=op.f("ck_plans_supervisor")),
        sa.CheckConstraint(
            "pause_reason IN ('user', 'phase_complete', 'approval', 'task_failed', 'interrupted', 'rollback', 'budget', 'deadlock')",
            name=op.f("ck_plans_pause_reason"),
        ),
        sa.CheckConstraint("pause_reason IS NULL OR status = 'paused'", name=op.f("ck_plans_reason_only_when_paused")),
        sa.CheckConstraint(
            "stage IN ('pending', 'planning', 'plan_awaiting_approval', 'plan_approved', 'implementing', 'implementation_awaiting_approval', 'reviewing', 'verifying', 'completed')",
            name=op.f("ck_plans_stage"),
        ),
        sa.CheckConstraint(
            "status IN ('draft', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_plans_status"),
        ),
        sa.CheckConstraint("stop IN ('drain', 'interrupt')", name=op.f("ck_plans_stop")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_plans_number_positive")),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_plans_owner_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_plans_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
        sa.UniqueConstraint("number", name=op.f("uq_plans_number")),
        sa.UniqueConstraint("project_id", "slug", name=op.f("uq_plans_project_id_slug")),
    )
    op.create_index("ix_plans_owner_number", "plans", ["owner_id", "number"], unique=False)
    op.create_index("ix_plans_project_number", "plans", ["project_id", "number"], unique=False)
    op.create_index("ix_plans_status_number", "plans", ["status", "number"], unique=False)
    op.create_table(
        "iterations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("content", Json(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_iterations_number_positive")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_iterations_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_iterations")),
        sa.UniqueConstraint("plan_id", "number", name=op.f("uq_iterations_plan_id_number")),
    )
    op.create_table(
        "phases",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("pause_after", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("when", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("review_round", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", Moment(), nullable=True),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.CheckConstraint("mode IN ('sequential', 'parallel', 'manual')", name=op.f("ck_phases_mode")),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'paused', 'completed', 'failed', 'skipped', 'cancelled')",
            name=op.f("ck_phases_status"),
        ),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_phases_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_phases")),
        sa.UniqueConstraint("plan_id", "position", name=op.f("uq_phases_plan_id_position")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("phase_id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("executor", sa.String(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default="3", nullable=False),
        sa.Column("timeout_seconds", sa.Float(), nullable=True),
        sa.Column("verify", Json(), nullable=False),
        sa.Column("retryable", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("max_seconds", sa.Float(), nullable=True),
        sa.Column("max_tokens", sa.BigInteger(), nullable=True),
        sa.Column("max_cost_usd", sa.Float(), nullable=True),
        sa.Column("permissions", Json(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("run", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claim", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.String(length=36), nullable=True),
        sa.Column("branch", sa.Text(), server_default="", nullable=False),
        sa.Column("head_checkpoint", sa.Integer(), server_default="0", nullable=False),
        sa.Column("head_message_id", sa.String(length=36), nullable=True),
        sa.Column("retry_at", Moment(), nullable=True),
        sa.Column("approved", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("read_only", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("contestant_of", sa.String(length=36), nullable=True),
        sa.Column("fork_point", sa.Text(), server_default="", nullable=False),
        sa.Column("start_message_id", sa.String(length=36), nullable=True),
        sa.Column("context", sa.Text(), server_default="", nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("started_at", Moment(), nullable=True),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.CheckConstraint("executor IN ('agent', 'command')", name=op.f("ck_tasks_executor")),
        sa.CheckConstraint(
            "failure IN ('exit', 'verify', 'timeout', 'merge_conflict', 'lost', 'start', 'internal', 'agent', 'login', 'rate_limit', 'missing', 'review')",
            name=op.f("ck_tasks_failure"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'awaiting_approval', 'queued', 'running', 'retrying', 'interrupted', 'paused', 'completed', 'failed', 'skipped', 'cancelled')",
            name=op.f("ck_tasks_status"),
        ),
        sa.CheckConstraint("max_attempts >= 1", name=op.f("ck_tasks_max_attempts_positive")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_tasks_number_positive")),
        sa.ForeignKeyConstraint(["claimed_by"], ["workers.id"], name=op.f("fk_tasks_claimed_by")),
        sa.ForeignKeyConstraint(["contestant_of"], ["tasks.id"], name=op.f("fk_tasks_contestant_of")),
        sa.ForeignKeyConstraint(["phase_id"], ["phases.id"], name=op.f("fk_tasks_phase_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_tasks_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("number", name=op.f("uq_tasks_number")),
        sa.UniqueConstraint("plan_id", "key", name=op.f("uq_tasks_plan_id_key")),
    )
    op.create_index("ix_tasks_claimed_by", "tasks", ["claimed_by"], unique=False)
    op.create_index("ix_tasks_contestant_of", "tasks", ["contestant_of"], unique=False)
    op.create_index("ix_tasks_phase_position", "tasks", ["phase_id", "position"], unique=False)
    op.create_index("ix_tasks_status_number", "tasks", ["status", "number"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("phase_id", sa.String(length=36), nullable=True),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("opened_at", Moment(), nullable=False),
        sa.Column("decided_at", Moment(), nullable=True),
        sa.Column("decided_by", sa.Text(), server_default="", nullable=False),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.Column("details", Json(), nullable=False),
        sa.CheckConstraint("(status = 'open') = (decided_at IS NULL)", name=op.f("ck_approvals_decided_has_time")),
        sa.CheckConstraint(
            "kind IN ('plan', 'result', 'task', 'phase', 'permission', 'question')", name=op.f("ck_approvals_kind")
        ),
        sa.CheckConstraint("status IN ('open', 'approved', 'rejected', 'cancelled')", name=op.f("ck_approvals_status")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_approvals_number_positive")),
        sa.ForeignKeyConstraint(["phase_id"], ["phases.id"], name=op.f("fk_approvals_phase_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_approvals_plan_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_approvals_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
        sa.UniqueConstraint("number", name=op.f("uq_approvals_number")),
    )
    op.create_index("ix_approvals_plan", "approvals", ["plan_id", "number"], unique=False)
    op.create_index("ix_approvals_status", "approvals", ["status", "number"], unique=False)
    op.create_table(
        "operations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=True),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("intent", Json(), nullable=False),
        sa.Column("outcome", Json(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.CheckConstraint("(status = 'open') = (ended_at IS NULL)", name=op.f("ck_operations_ended_has_time")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_operations_number_positive")),
        sa.CheckConstraint("status IN ('open', 'done', 'failed')", name=op.f("ck_operations_status")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_operations_plan_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_operations_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
        sa.UniqueConstraint("number", name=op.f("uq_operations_number")),
    )
    op.create_index("ix_operations_plan", "operations", ["plan_id", "id"], unique=False)
    op.create_index("ix_operations_status", "operations", ["status", "id"], unique=False)
    op.create_table(
        "steps",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("parent_step_id", sa.String(length=36), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("run", sa.Integer(), server_default="0", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("commit_before", sa.Text(), nullable=False),
        sa.Column("commit_after", sa.Text(), nullable=True),
        sa.Column("agent_config", Json(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("interrupted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("restarts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("idle_seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("cpu_seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("peak_memory_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Float(), server_default="0", nullable=False),
        sa.Column("files_changed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("bytes_changed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("details", Json(), nullable=False),
        sa.CheckConstraint(
            "failure IN ('exit', 'verify', 'timeout', 'merge_conflict', 'lost', 'start', 'internal', 'agent', 'login', 'rate_limit', 'missing', 'review')",
            name=op.f("ck_steps_failure"),
        ),
        sa.CheckConstraint("ended_at IS NOT NULL OR exit_code IS NULL", name=op.f("ck_steps_exit_has_end")),
        sa.CheckConstraint(
            "ended_at IS NULL OR exit_code IS NOT NULL OR interrupted OR failure IS NOT NULL",
            name=op.f("ck_steps_end_told"),
        ),
        sa.CheckConstraint("number >= 1", name=op.f("ck_steps_number_positive")),
        sa.ForeignKeyConstraint(["parent_step_id"], ["steps.id"], name=op.f("fk_steps_parent_step_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_steps_plan_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_steps_project_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_steps_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_steps")),
        sa.UniqueConstraint("project_id", "number", name=op.f("uq_steps_project_id_number")),
        sa.UniqueConstraint("task_id", "run", name=op.f("uq_steps_task_id_run")),
    )
    op.create_index("ix_steps_branch", "steps", ["project_id", "branch", "number"], unique=False)
    op.create_index("ix_steps_parent", "steps", ["parent_step_id"], unique=False)
    op.create_index("ix_steps_plan_number", "steps", ["plan_id", "number"], unique=False)
    op.create_index("ix_steps_task_number", "steps", ["task_id", "number"], unique=False)
    op.create_index(
        "uq_steps_running",
        "steps",
        ["task_id"],
        unique=True,
        sqlite_where=sa.text("active AND ended_at IS NULL AND NOT interrupted"),
        postgresql_where=sa.text("active AND ended_at IS NULL AND NOT interrupted"),
    )
    op.create_table(
        "task_dependencies",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("depends_on_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("task_id <> depends_on_id", name=op.f("ck_task_dependencies_not_itself")),
        sa.ForeignKeyConstraint(["depends_on_id"], ["tasks.id"], name=op.f("fk_task_dependencies_depends_on_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_task_dependencies_task_id")),
        sa.PrimaryKeyConstraint("task_id", "depends_on_id", name=op.f("pk_task_dependencies")),
    )
    op.create_index("ix_task_dependencies_depends_on", "task_dependencies", ["depends_on_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", Serial, autoincrement=True, nullable=False),
        sa.Column("tx", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("owner_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=True),
        sa.Column("plan_id", sa.String(length=36), nullable=True),
        sa.Column("phase_id", sa.String(length=36), nullable=True),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("step_id", sa.String(length=36), nullable=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("subtype", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("data", Json(), nullable=False),
        sa.CheckConstraint(
            "type IN ('plan', 'phase', 'task', 'step', 'checkpoint', 'chat', 'file', 'approval', 'worker', 'system')",
            name=op.f("ck_events_type"),
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_events_owner_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_events_plan_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_events_project_id")),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name=op.f("fk_events_step_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_actor", "events", ["actor", "at", "id"], unique=False)
    op.create_index("ix_events_owner", "events", ["owner_id", "at", "id"], unique=False)
    op.create_index("ix_events_phase", "events", ["phase_id", "at", "id"], unique=False)
    op.create_index("ix_events_plan", "events", ["plan_id", "at", "id"], unique=False)
    op.create_index("ix_events_project", "events", ["project_id", "at", "id"], unique=False)
    op.create_index("ix_events_step", "events", ["step_id", "at", "id"], unique=False)
    op.create_index("ix_events_subtype", "events", ["subtype", "at", "id"], unique=False)
    op.create_index("ix_events_task", "events", ["task_id", "at", "id"], unique=False)
    op.create_index("ix_events_tx", "events", ["tx", "id"], unique=False)
    op.create_index("ix_events_type", "events", ["type", "at", "id"], unique=False)
    op.create_table(
        "journals",
        sa.Column("step_id", sa.String(length=36), nullable=False),
        sa.Column("launch", sa.String(length=80), nullable=False),
        sa.Column("last_record", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("usage", Json(), nullable=True),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name=op.f("fk_journals_step_id")),
        sa.PrimaryKeyConstraint("step_id", "launch", name=op.f("pk_journals")),
    )
    op.create_table(
        "logs",
        sa.Column("id", Serial, autoincrement=True, nullable=False),
        sa.Column("step_id", sa.String(length=36), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("stream IN ('stdout', 'stderr', 'system')", name=op.f("ck_logs_stream")),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name=op.f("fk_logs_step_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logs")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_logs_step", "logs", ["step_id", "id"], unique=False)
    op.create_table(
        "messages",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("step_id", sa.String(length=36), nullable=True),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("thought", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("tool_calls", Json(), nullable=False),
        sa.Column("tool_name", sa.Text(), nullable=True),
        sa.Column("tool_input", Json(), nullable=True),
        sa.Column("tool_result", sa.Text(), nullable=True),
        sa.Column("result_blob", sa.String(length=64), nullable=True),
        sa.Column("is_error", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("token_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Float(), server_default="0", nullable=False),
        sa.Column("tokens_so_far", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_so_far", sa.Float(), server_default="0", nullable=False),
        sa.CheckConstraint("role IN ('user', 'assistant', 'system', 'tool')", name=op.f("ck_messages_role")),
        sa.ForeignKeyConstraint(["parent_id"], ["messages.id"], name=op.f("fk_messages_parent_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_messages_plan_id")),
        sa.ForeignKeyConstraint(["result_blob"], ["blobs.digest"], name=op.f("fk_messages_result_blob")),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name=op.f("fk_messages_step_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_messages_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index("ix_messages_parent", "messages", ["parent_id"], unique=False)
    op.create_index("ix_messages_plan", "messages", ["plan_id", "position", "id"], unique=False)
    op.create_index("ix_messages_task", "messages", ["task_id", "position", "id"], unique=False)
    op.create_table(
        "metrics",
        sa.Column("id", Serial, autoincrement=True, nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("step_id", sa.String(length=36), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("unit", sa.Text(), server_default="", nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_metrics_plan_id")),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name=op.f("fk_metrics_step_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metrics")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("step_id", sa.String(length=36), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.Column("tree", sa.Text(), nullable=False),
        sa.Column("head_commit", sa.Text(), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=True),
        sa.Column("state", Json(), nullable=False),
        sa.Column("skipped", Json(), nullable=False),
        sa.Column("busy", Json(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("superseded", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("details", Json(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('initial', 'interval', 'step', 'manual', 'stage', 'pre_rewind')", name=op.f("ck_checkpoints_kind")
        ),
        sa.CheckConstraint("task_id IS NOT NULL OR kind <> 'step'", name=op.f("ck_checkpoints_step_has_task")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_checkpoints_number_positive")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_checkpoints_message_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_checkpoints_plan_id")),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name=op.f("fk_checkpoints_step_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_checkpoints_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoints")),
    )
    op.create_index("ix_checkpoints_plan", "checkpoints", ["plan_id", "id"], unique=False)
    op.create_index("ix_checkpoints_step", "checkpoints", ["step_id"], unique=False)
    op.create_index(
        "uq_checkpoints_plan_number",
        "checkpoints",
        ["plan_id", "number"],
        unique=True,
        sqlite_where=sa.text("task_id IS NULL"),
        postgresql_where=sa.text("task_id IS NULL"),
    )
    op.create_index(
        "uq_checkpoints_task_number",
        "checkpoints",
        ["task_id", "number"],
        unique=True,
        sqlite_where=sa.text("task_id IS NOT NULL"),
        postgresql_where=sa.text("task_id IS NOT NULL"),
    )
    op.create_table(
        "conversation_snapshots",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("message_id", sa.String(length=36), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("message_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("token_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Float(), server_default="0", nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.CheckConstraint("kind IN ('auto', 'manual', 'checkpoint')", name=op.f("ck_conversation_snapshots_kind")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_conversation_snapshots_message_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_conversation_snapshots_plan_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_conversation_snapshots_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversation_snapshots")),
    )
    op.create_index("ix_conversation_snapshots_plan", "conversation_snapshots", ["plan_id", "id"], unique=False)
    op.create_index("ix_conversation_snapshots_task", "conversation_snapshots", ["task_id", "id"], unique=False)
    op.create_table(
        "file_snapshots",
        sa.Column("checkpoint_id", sa.String(length=36), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_file_snapshots_checkpoint_id")),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name=op.f("fk_file_snapshots_digest")),
        sa.PrimaryKeyConstraint("checkpoint_id", "path", name=op.f("pk_file_snapshots")),
    )
    op.create_index("ix_file_snapshots_digest", "file_snapshots", ["digest"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.String(length=36), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=True),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("step_id", sa.String(length=36), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=True),
        sa.Column("revoked_at", Moment(), nullable=True),
        sa.Column("last_used_at", Moment(), nullable=True),
        sa.CheckConstraint("(scope = 'task') = (task_id IS NOT NULL)", name=op.f("ck_tokens_bound_to_task")),
        sa.CheckConstraint("(scope IN ('plan', 'task')) = (plan_id IS NOT NULL)", name=op.f("ck_tokens_bound_to_plan")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_tokens_number_positive")),
        sa.CheckConstraint("scope IN ('read', 'run', 'admin', 'worker', 'plan', 'task')", name=op.f("ck_tokens_scope")),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_tokens_owner_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_tokens_plan_id")),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name=op.f("fk_tokens_step_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_tokens_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
        sa.UniqueConstraint("number", name=op.f("uq_tokens_number")),
    )
    op.create_index("ix_tokens_step", "tokens", ["step_id"], unique=False)
    # ### end Alembic commands ###
    # Not `create_index`: an index on an expression.
    op.execute(
        "CREATE UNIQUE INDEX uq_approvals_open ON approvals "
        "(plan_id, kind, coalesce(phase_id, ''), coalesce(task_id, ''), subject) WHERE status = 'open'"
    )
    op.execute("CREATE UNIQUE INDEX uq_metrics_name ON metrics (plan_id, coalesce(step_id, ''), name)")


def _triggers() -> None:
    """Refuses to make a rolled-back step active again and to change an event or a message."""
    if op.get_bind().dialect.name == "sqlite":
        for name, table, when, problem in _GUARDS:
            op.execute(
                f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW WHEN {when} "
                f"BEGIN SELECT RAISE(ABORT, '{problem}'); END"
            )
        return
    for name, table, when, problem in _GUARDS:
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION '{problem}' USING ERRCODE = 'check_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {name}()"
        )
    # Taken when the row is written, so that followers can order by it.
    op.execute("ALTER TABLE events ALTER COLUMN tx SET DEFAULT pg_current_xact_id()::text::bigint")


_GUARDS = (
    ("steps_stay_rolled_back", "steps", "NEW.active AND NOT OLD.active", "a rolled-back step stays rolled back"),
    ("events_stay", "events", "OLD.id IS NOT NULL", "an event is never changed"),
    ("messages_stay", "messages", "OLD.id IS NOT NULL", "a message is never changed"),
)


def _rows() -> None:
    """Makes the owner of everything that one person does on one machine, and the counters of short numbers."""
    owners = sa.table("owners", sa.column("id"), sa.column("name"), sa.column("created_at", Moment()))
    op.bulk_insert(owners, [{"id": "local", "name": "local", "created_at": datetime.now(UTC)}])
    counters = sa.table("counters", sa.column("name"), sa.column("value"))
    op.bulk_insert(
        counters,
        [{"name": name, "value": 0} for name in ("projects", "plans", "tasks", "approvals", "tokens", "operations")],
    )
