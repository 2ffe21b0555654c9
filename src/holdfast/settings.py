"""Settings: every limit and place, each from one `HOLDFAST_*` environment variable or its default."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Holds one value per setting; the environment variable is `HOLDFAST_` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix="HOLDFAST_", extra="ignore")

    data: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("holdfast")),
        description="Folder of everything that Holdfast keeps: database, vaults, worktrees, runs, blobs, backups.",
    )
    db: str = Field(
        default="",
        description="Database URL: sqlite:///path or postgresql://…; empty = holdfast.db in the data folder.",
    )
    backup_on_start: bool = Field(default=False, description="Back the database up each time a worker starts.")
    backups_kept: int = Field(default=10, ge=1, description="Automatic backups kept; the oldest go first.")

    max_parallel: int = Field(default=4, ge=1, description="Tasks that one worker runs at the same time.")
    checkpoint_interval_seconds: float = Field(
        default=300.0, ge=0, description="Time between interval checkpoints of a running task; 0 = none."
    )
    retry_base_seconds: float = Field(default=5.0, ge=0, description="Wait before attempt 2; doubles each time.")
    retry_max_seconds: float = Field(default=300.0, ge=0, description="Longest wait before an attempt.")
    stop_grace_seconds: float = Field(
        default=10.0, ge=0, description="Time between SIGTERM and SIGKILL when a command is stopped."
    )
    default_timeout_seconds: float = Field(
        default=0.0, ge=0, description="Time limit of a task that names none; 0 = no limit."
    )
    command_environment: str = Field(
        default="PATH,HOME,USER,LOGNAME,SHELL,LANG,LC_ALL,LC_CTYPE,TERM,TZ,TMPDIR",
        description="Names of the environment variables that commands inherit, separated by commas.",
    )

    journal_max_bytes: int = Field(
        default=64 << 20, ge=1 << 16, description="Output of one command that is kept; the rest is cut with a marker."
    )
    log_max_bytes: int = Field(
        default=8 << 20, ge=1 << 12, description="Output of one step that goes to the database's log."
    )
    max_file_bytes: int = Field(
        default=1 << 30, ge=1 << 16, description="Largest file that a checkpoint keeps; larger ones are skipped."
    )
    diff_max_files: int = Field(default=2000, ge=1, description="Files that one diff shows.")
    diff_max_lines: int = Field(default=20000, ge=1, description="Lines that one diff shows.")
    plan_file_max_bytes: int = Field(default=4 << 20, ge=1024, description="Largest plan file that is read.")

    @property
    def database_url(self) -> str:
        """The URL in force; SQLite in the data folder unless `HOLDFAST_DB` says otherwise."""
        return self.db or f"sqlite:///{self.data / 'holdfast.db'}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Gives the settings of this process, read once."""
    return Settings()
