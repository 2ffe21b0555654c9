"""Holdfast runs plans of coding-agent work on git repositories, durably.

Start reading at `holdfast.domain` (the model on one page), then `domain/transitions.py`,
`engine/task_run.py` and one verb in `app/`.
"""

__version__ = "0.1.0"
