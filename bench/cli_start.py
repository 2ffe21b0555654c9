"""What it costs to start the program: `--help`, `run --help` and `status`, beside a bare `python -c pass`.

All are started in turn, round by round, so that a busy machine slows them alike. Prints medians and ratios and writes
bench/results/cli_start.json. Exit code 1 if `holdfast --help` takes 0.3 s or more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "cli_start.json"
HELP_LIMIT_SECONDS = 0.3
BARE = "python -c pass"
PROGRAM = [str(Path(sys.executable).parent / "holdfast")]
COMMANDS: dict[str, list[str]] = {
    BARE: [sys.executable, "-c", "pass"],
    "holdfast --help": [*PROGRAM, "--help"],
    "holdfast run --help": [*PROGRAM, "run", "--help"],
    "holdfast status": [*PROGRAM, "status"],
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one start took; CPU is user + system of the process and its children."""

    wall_seconds: float
    cpu_seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        environment["HOLDFAST_DATA"] = folder
        for command in COMMANDS.values():
            start(command, environment)  # warms the file cache and makes the database
        rounds = [
            {name: start(command, environment) for name, command in COMMANDS.items()} for _ in range(chosen.rounds)
        ]
    medians = {name: median([each[name] for each in rounds]) for name in COMMANDS}
    print_table(medians)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({name: asdict(cost) for name, cost in medians.items()}, indent=2) + "\n")
    reached = medians["holdfast --help"].wall_seconds < HELP_LIMIT_SECONDS
    print(f"\nholdfast --help in under {HELP_LIMIT_SECONDS} s: {'yes' if reached else 'NO'}")
    return 0 if reached else 1


def start(command: list[str], environment: dict[str, str]) -> Cost:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(each.wall_seconds for each in costs), statistics.median(each.cpu_seconds for each in costs)
    )


def print_table(medians: dict[str, Cost]) -> None:
    bare = medians[BARE]
    print(f"{'command':22} {'wall ms':>8} {'cpu ms':>8} {'wall x':>8} {'cpu x':>8}")
    for name, cost in medians.items():
        wall, cpu = cost.wall_seconds / bare.wall_seconds, cost.cpu_seconds / bare.cpu_seconds
        print(f"{name:22} {1000 * cost.wall_seconds:8.0f} {1000 * cost.cpu_seconds:8.0f} {wall:8.1f} {cpu:8.1f}")


if __name__ == "__main__":
    sys.exit(main())
