"""What confinement adds to one command: from its start under the shim to its recorded end, beside the same unconfined.

All kinds are run in turn, round by round, so that a busy machine slows them alike. Prints medians and ratios and writes
bench/results/sandbox.json. Kinds that do not work here are left out and named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from holdfast.agents import Launch, Record, run_command
from holdfast.sandbox import Confinement, Mount, Network, Wrapped, made, named

RESULTS = Path(__file__).parent / "results" / "sandbox.json"
PLAIN = "unconfined"
COMMAND = ("/bin/sh", "-c", "true")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        kinds = command_lines(Path(folder))
        seconds = asyncio.run(measure(Path(folder), kinds, chosen.rounds))
    medians = {kind: statistics.median(found) for kind, found in seconds.items()}
    print(f"{'kind':<28}{'median':>12}{'ratio':>8}{'added':>12}")
    for kind, median in medians.items():
        added = median - medians[PLAIN]
        print(f"{kind:<28}{median * 1000:>9.1f} ms{median / medians[PLAIN]:>8.2f}{added * 1000:>9.1f} ms")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(medians, indent=2) + "\n")
    return 0


def command_lines(folder: Path) -> dict[str, Wrapped]:
    """Gives what is started for each kind that works here."""
    env = {"PATH": os.environ["PATH"]}
    for name in ("worktree", "home", "run"):
        (folder / name).mkdir()
    confinement = Confinement(
        worktree=Mount.of(folder / "worktree"), home=Mount.of(folder / "home"), folder=folder / "run", token="bench"
    )
    kinds = {PLAIN: Wrapped(COMMAND, env)}
    bubblewrap = made(named("bubblewrap"), "")
    if why := bubblewrap.refusal():
        print(f"left out: {why}")
        return kinds
    for network in Network:
        kinds[f"bubblewrap, network {network}"] = bubblewrap.wrap(replace(confinement, network=network), COMMAND, env)
    return kinds


async def measure(folder: Path, kinds: dict[str, Wrapped], rounds: int) -> dict[str, list[float]]:
    """Gives the seconds of each run of each kind; the first round warms caches and is not counted."""
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        for position, (kind, wrapped) in enumerate(kinds.items()):
            token = f"bench-{number}-{position}"
            launch = Launch(argv=wrapped.argv, env=wrapped.env, cwd=str(folder / "worktree"), token=token)
            began = time.perf_counter()
            done = await run_command(folder / "runs" / token, launch, on_records=ignore, stop=asyncio.Event())
            if number:
                seconds[kind].append(time.perf_counter() - began)
            assert done.exit_code == 0, done.last_output
    return seconds


async def ignore(records: Sequence[Record]) -> None:
    """Leaves the records in the journal."""


if __name__ == "__main__":
    raise SystemExit(main())
