"""The schema's history: Alembic revisions 0001, 0002 … A published one is never edited."""
