"""Starts the gate: `python -I -S __main__.py FOLDER HOST… -- COMMAND…` (see `__init__.py` beside it)."""

import sys

# As in the shim: appended, so that nothing beside us may shadow the standard library.
sys.path.append(__file__.rpartition("/gate/")[0])

from gate.run import main  # pyright: ignore[reportMissingImports]

_end = sys.argv.index("--")
main(sys.argv[1], sys.argv[2:_end], sys.argv[_end + 1 :])
