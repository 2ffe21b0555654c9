"""Starts what starts shims: `python -I -S __main__.py --nursery <descriptor>` (see `__init__.py` beside it)."""

import sys

# Appended, not put first: nothing beside us may shadow the standard library. `-I` gives no path of our own, and as an
# imported package the rest is read from its cached bytecode, where a script is compiled at every start.
sys.path.append(__file__.rpartition("/shim/")[0])

from shim.nursery import serve  # pyright: ignore[reportMissingImports]

serve(int(sys.argv[2]))
