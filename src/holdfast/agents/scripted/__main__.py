"""Runs the scripted agent: `python -m holdfast.agents.scripted SCRIPT`."""

from __future__ import annotations

import sys

from holdfast.agents.scripted.agent import main

if __name__ == "__main__":
    main(sys.argv[1:])
