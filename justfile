# Every recipe is a plain command; without `just`, type it.

# Lists the recipes.
default:
    @just --list

# Lint, format, types, the imports of the house.
check:
    uv run ruff check
    uv run ruff format --check
    uv run pyright
    uv run lint-imports

# The tests without the slow ones.
test:
    uv run pytest -m "not slow"

# All tests: those that the CI runs, and those of the same kind that it leaves out for want of time.
test-all:
    uv run pytest -m "campaign or not campaign"

# Kills the sample plan a thousand times on each database.
crash kills="1000":
    uv run python -m tests.crash.campaign --kills {{kills}} --database sqlite --mode both --jobs 2
    uv run python -m tests.crash.campaign --kills {{kills}} --database postgres --mode both --jobs 2

# Cuts the power of a machine that runs the sample plan, and that goes back (as root; a folder with reflinks).
power folder cuts="100":
    for on in ext4 xfs btrfs; do \
        uv run python -m tests.crash.power --cuts {{cuts}} --on $on --folder {{folder}} && \
        uv run python -m tests.crash.power --back --cuts {{cuts}} --on $on --folder {{folder}} || exit 1; \
    done

# The benchmarks, each with its peers beside it; results go to bench/results.
bench:
    uv run python bench/cli_start.py
    uv run python bench/overhead.py
    uv run python bench/resume.py
    uv run python bench/checkpoint.py
    uv run python bench/rewind.py
    uv run python bench/fork.py
    uv run python bench/sandbox.py
    uv run python bench/messages.py
    uv run python bench/turn.py
    uv run python bench/timeline.py --postgres

# Writes the pages that are made of the source.
docs:
    uv run python docs/generate.py
