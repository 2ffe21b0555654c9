"""What the crash tests run: a small repository, a plan that shows every doubling and every loss, a place outside.

Each task leaves one line in the worktree, lines outside it, and numbered lines in its log. Whatever is run twice,
not at all or only in part can then be seen in the end, in the commits, outside, and in the log.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LINES = 12
TITLE = "crash sample"

# effect.sh NAME SECONDS [first attempt that succeeds [file to wait for]]
EFFECT = f"""\
set -eu
name=$1 pause=$2 succeeds=${{3:-1}} awaited=${{4:-README}}
echo "begin $HOLDFAST_TASK_KEY $HOLDFAST_ATTEMPT $HOLDFAST_STEP" >> "$OUTSIDE"
echo "$name attempt=$HOLDFAST_ATTEMPT step=$HOLDFAST_STEP" >> "marks/$name.txt"
while [ ! -e "$awaited" ] || [ -e "$OUTSIDE.hold-$name" ]; do sleep 0.02; done
i=0
while [ $i -lt {LINES} ]; do
    i=$((i + 1))
    echo "line $i of $name"
    if [ $((i % 4)) -eq 0 ]; then sleep "$pause"; fi
done
if [ "$HOLDFAST_ATTEMPT" -lt "$succeeds" ]; then
    echo rubbish > "marks/$name-failed.txt"
    echo "end $HOLDFAST_TASK_KEY $HOLDFAST_ATTEMPT $HOLDFAST_STEP" >> "$OUTSIDE"
    exit 7
fi
echo "changed by $name" >> shared/"$(printf %.1s "$name")".txt
mkdir -p "made/$name"
echo "made by $name" > "made/$name/file.txt"
rm -f "doomed/$name.txt"
echo "end $HOLDFAST_TASK_KEY $HOLDFAST_ATTEMPT $HOLDFAST_STEP" >> "$OUTSIDE"
"""

LOOK = f"""\
set -eu
echo "begin $HOLDFAST_TASK_KEY $HOLDFAST_ATTEMPT $HOLDFAST_STEP" >> "$OUTSIDE"
i=0
while [ $i -lt {LINES} ]; do i=$((i + 1)); echo "line $i of look"; done
sleep 0.02
echo "end $HOLDFAST_TASK_KEY $HOLDFAST_ATTEMPT $HOLDFAST_STEP" >> "$OUTSIDE"
"""

# One mark each, of the attempt that succeeded, whatever was killed on the way.
CHECK = """\
set -eu
for name in "$@"; do
    sleep 0.03
    [ "$(wc -l < "marks/$name.txt")" -eq 1 ] || { echo "marks/$name.txt has not one line"; exit 1; }
    [ -f "made/$name/file.txt" ] || { echo "made/$name/file.txt is missing"; exit 1; }
    [ ! -e "doomed/$name.txt" ] || { echo "doomed/$name.txt is still there"; exit 1; }
done
"""

PLAN = """\
title: crash sample
verify:
  - sh check.sh build left right after flaky last talker teller
  - test ! -e marks/flaky-failed.txt
variables:
  OUTSIDE: "{outside}"
phases:
  - title: begin
    tasks:
      - {{key: build, title: Build it, run: "sh effect.sh build 0.04", verify: ["sh check.sh build", "test -d made"]}}
      - {{key: look, title: Look at it, run: "sh look.sh"}}
      - {{key: talker, title: An agent, agent: talker, instructions: Do it, verify: ["sh check.sh talker"]}}
  - title: side by side
    mode: parallel
    tasks:
      - {{key: left, title: Left side, run: "sh effect.sh left 0.15"}}
      - {{key: right, title: Right side, run: "sh effect.sh right 0.05", verify: ["sh check.sh right"]}}
      - {{key: teller, title: One that forgets, agent: teller, instructions: Do it, depends_on: [right]}}
      - {{key: after, title: After the right one, run: "sh effect.sh after 0.03", depends_on: [right]}}
  - title: finish
    tasks:
      - {{key: flaky, title: Fails at first, run: "sh effect.sh flaky 0.03 2"}}
      - {{key: last, title: The last one, run: "sh effect.sh last 0.03"}}
"""

GATED = """\
title: crash sample
gates: [plan, result]
variables:
  OUTSIDE: "{outside}"
phases:
  - title: only
    tasks:
      - {{key: build, title: Build it, run: "sh effect.sh build 0.03"}}
"""

SMALL = """\
title: crash sample
variables:
  OUTSIDE: "{outside}"
phases:
  - title: only
    tasks:
      - {{key: build, title: Build it, run: "sh effect.sh build 0.2"}}
      - {{key: last, title: The last one, run: "sh effect.sh last 0.03"}}
"""

# Its first command runs until somebody makes the file `go`.
HELD = """\
title: crash sample
variables:
  OUTSIDE: "{outside}"
phases:
  - title: only
    tasks:
      - {{key: build, title: Build it, run: 'sh effect.sh build 0.02 1 "$OUTSIDE.go"'}}
      - {{key: last, title: The last one, run: "sh effect.sh last 0.02"}}
"""

NAMES = ("build", "left", "right", "after", "flaky", "last", "talker", "teller")
AGENTS = {"talker": {"load": True}, "teller": {"load": False}}
USED_TOKENS, USED_COST = 40, 0.25


def turn(name: str) -> list[dict[str, object]]:
    """Gives what an agent does for its task: whatever is cut off can be done again, and what is told twice is seen."""
    told = 'echo "{moment} $HOLDFAST_TASK_KEY $HOLDFAST_ATTEMPT $HOLDFAST_STEP" >> "$OUTSIDE"'
    mark = f'echo "{name} attempt=$HOLDFAST_ATTEMPT step=$HOLDFAST_STEP" > marks/{name}.txt'
    work: list[dict[str, object]] = [
        {"run": mark},
        {"write": {"path": f"made/{name}/file.txt", "text": f"made by {name}\n", "client": True}},
        {"ask": {"title": "May I?", "allow": [{"run": {"command": f"rm -f doomed/{name}.txt", "terminal": True}}]}},
    ]
    lines = [{"say": f"line {number} of {name}\n"} for number in range(1, LINES + 1)]
    actions = [{"think": "so"}, {"run": told.format(moment="begin")}]
    for number, line in enumerate(lines):
        actions += [line, {"sleep": 0.01}]
        actions += work[number // 4 : number // 4 + 1] if number % 4 == 3 else []
    used = {"used": 100, "cost": USED_COST, "input": 30, "output": 10}
    return [*actions, {"usage": used}, {"run": told.format(moment="end")}, {"say": "done"}]


def write_agents(root: Path) -> None:
    """Writes the agents of a run: one that loads its session after a kill, and one that cannot."""
    tables: list[str] = []
    for name, about in AGENTS.items():
        script = root / f"{name}.json"
        script.write_text(json.dumps({"agent": about, "turns": [turn(name)]}))
        command = json.dumps([sys.executable, "-m", "holdfast.agents.scripted", str(script)])
        sessions = json.dumps(str(root / "sessions"))
        tables.append(f"[{name}]\ncommand = {command}\nenvironment = {{HOLDFAST_SCRIPTED_SESSIONS = {sessions}}}\n")
    (root / "agents.toml").write_text("\n".join(tables))


@dataclass(frozen=True, slots=True)
class Scene:
    """The folders of one run; all that its processes do carries `root` or `token`."""

    root: Path
    token: str
    database_url: str

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def repository(self) -> Path:
        return self.root / "repository"

    @property
    def plan_file(self) -> Path:
        return self.root / "plan.yaml"

    @property
    def outside(self) -> Path:
        return self.root / "outside.txt"

    def hold(self, name: str) -> Path:
        """Gives the file that holds the command of a task at its beginning while it is there."""
        return self.outside.with_name(f"{self.outside.name}.hold-{name}")

    def let_go(self) -> None:
        """Lets the first command of the plan `HELD` go on."""
        self.outside.with_name(f"{self.outside.name}.go").touch()

    def environment(self) -> dict[str, str]:
        """Gives the whole environment of a process that works on this run."""
        names = "PATH,HOME,CRASH_TOKEN"
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return inherited | {
            "CRASH_TOKEN": self.token,
            "HOLDFAST_DATA": str(self.data),
            "HOLDFAST_DB": self.database_url,
            "HOLDFAST_COMMAND_ENVIRONMENT": names,
            "HOLDFAST_RETRY_BASE_SECONDS": "0.05",
            "HOLDFAST_SANDBOX": "none",
            "HOLDFAST_AGENTS": str(self.root / "agents.toml"),
            "HOLDFAST_PERMISSIONS": "allow-all",
            "HOLDFAST_CHECKPOINT_INTERVAL_SECONDS": "0",
            "HOLDFAST_STOP_GRACE_SECONDS": "2",
        }


def make_scene(root: Path, token: str, database_url: str, *, plan: str = PLAN) -> Scene:
    """Makes the repository and the plan file of one run; `database_url` empty = SQLite in the data folder."""
    scene = Scene(root, token, database_url)
    scene.repository.mkdir(parents=True)
    for folder in ("marks", "shared", "doomed"):
        (scene.repository / folder).mkdir()
        (scene.repository / folder / "keep").write_text("")
    for name in NAMES:
        (scene.repository / "doomed" / f"{name}.txt").write_text("to be deleted\n")
    for name, text in (("effect.sh", EFFECT), ("look.sh", LOOK), ("check.sh", CHECK), ("README", "a sample\n")):
        (scene.repository / name).write_text(text)
    git(scene.repository, "init", "-q", "-b", "main")
    git(scene.repository, "add", "-A")
    who = ("-c", "user.name=Crash", "-c", "user.email=crash@localhost")
    git(scene.repository, *who, "commit", "-q", "-m", "start")
    write_agents(root)
    scene.plan_file.write_text(plan.format(outside=scene.outside))
    return scene


def git(repository: Path, *arguments: str, given: str = "") -> str:
    """Gives the output of a git command, which ignores the machine's configuration; `given` is its standard input."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
        "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    }
    line = ["git", *arguments]
    return subprocess.run(
        line, cwd=repository, env=environment, input=given, capture_output=True, text=True, check=True
    ).stdout
