"""No sandbox: the command runs as the user, with the user's rights, files and network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holdfast.errors import UsageError
from holdfast.sandbox.confinement import Confinement, Hold, Holds, SandboxName, Wrapped


class Unconfined:
    """Starts the command as it is; the time limit is the shim's and holds here too."""

    name = SandboxName.NONE

    def refusal(self) -> str:
        return ""

    def wrap(self, confinement: Confinement, argv: Sequence[str], env: Mapping[str, str]) -> Wrapped:
        if confinement.worktree.source != confinement.worktree.target:
            raise UsageError(
                "without a sandbox a worktree is seen only where it lies",
                hint="Choose one: --sandbox bubblewrap, podman or docker.",
            )
        return Wrapped(tuple(argv), env)

    def holds(self) -> Holds:
        return Holds(files=False, network=False, memory=Hold.NOT, processes=Hold.NOT, cpus=Hold.NOT)

    def end(self, token: str) -> int:
        return 0
