"""What of an agent's program a sandbox has to show, for the ways in which agents are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from holdfast.agents.installed import installed


def program(path: Path, first_line: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first_line}\n")
    path.chmod(0o755)
    return path


def link(path: Path, target: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def test_an_npm_package_of_nvm_is_shown_with_its_node(tmp_path: Path) -> None:
    home = tmp_path / "home"
    node = home / ".nvm/versions/node/v22"
    real = program(node / "lib/node_modules/agent/dist/main.js", "#!/usr/bin/env node")
    place = link(node / "bin/agent", real)
    seen = installed(place, [home])
    assert node in seen.readable
    assert seen.program == place


def test_an_npm_package_below_the_local_folder_shows_its_modules_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    real = program(home / ".local/lib/node_modules/agent/main.js")
    place = link(home / ".local/bin/agent", real)
    seen = installed(place, [home, home / ".local/share/holdfast"])
    assert seen.program == real
    assert set(seen.readable) == {home / ".local/lib/node_modules", real}


def test_a_tool_of_uv_is_shown_with_its_python(tmp_path: Path) -> None:
    home = tmp_path / "home"
    base = home / ".local/share/uv/python/cpython-3.12"
    tool = home / ".local/share/uv/tools/vibe"
    link(tool / "bin/python", program(base / "bin/python3.12"))
    real = program(tool / "bin/vibe", f"#!{tool}/bin/python")
    place = link(home / ".local/bin/vibe", real)
    seen = installed(place, [home])
    assert seen.program == real
    assert {tool, base} <= set(seen.readable)
    assert not any(home.is_relative_to(each) or each == home / ".local" for each in seen.readable)


@pytest.mark.parametrize("where", ["bin/agent", ".local/bin/agent"])
def test_of_a_program_right_in_the_home_folder_only_the_file_is_shown(tmp_path: Path, where: str) -> None:
    place = program(tmp_path / where)
    assert installed(place, [tmp_path]).readable == (place,)


def test_a_program_of_the_system_needs_nothing_more() -> None:
    assert installed(Path("/bin/sh"), [Path.home()]).readable == ()


def test_a_python_of_a_virtual_environment_stays_that(tmp_path: Path) -> None:
    place = link(tmp_path / "venv/bin/python", Path(sys.executable).resolve())
    seen = installed(place, [Path.home()])
    assert seen.program == place
    assert tmp_path / "venv" in seen.readable
