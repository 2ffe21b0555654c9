"""Chooses the sandbox that is asked for, or the first that works on this machine."""

from __future__ import annotations

from holdfast.domain.words import did_you_mean
from holdfast.errors import Unavailable, UsageError
from holdfast.sandbox.bubblewrap import Bubblewrap
from holdfast.sandbox.confinement import Sandbox, SandboxName
from holdfast.sandbox.container import Container
from holdfast.sandbox.none import Unconfined

_BY_ITSELF = (SandboxName.BUBBLEWRAP, SandboxName.PODMAN, SandboxName.DOCKER)
_HINT = "install bubblewrap, or let commands run unconfined: HOLDFAST_SANDBOX=none, or `holdfast init --sandbox none`"


def named(name: str) -> SandboxName:
    """Gives what a person asked for; raises UsageError."""
    try:
        return SandboxName(name)
    except ValueError:
        choices = [str(each) for each in SandboxName]
        raise UsageError(f"there is no sandbox {name!r}", hint=did_you_mean(name, choices)) from None


def choose(name: str, *, image: str = "") -> Sandbox:
    """Gives a sandbox that was seen to work here; `image` is what podman and docker run.

    Raises `Unavailable` (exit code 5) with the reasons, never falls back to none; UsageError for a name that is none.
    """
    wanted = named(name)
    if wanted is not SandboxName.AUTO:
        sandbox = made(wanted, image)
        if why := sandbox.refusal():
            raise Unavailable(f"the sandbox {wanted} cannot be used: {why}", hint=_hint(wanted, why), code="no_sandbox")
        return sandbox
    reasons: list[str] = []
    for each in _BY_ITSELF:
        sandbox = made(each, image)
        if not (why := sandbox.refusal()):
            return sandbox
        reasons.append(why)
    raise Unavailable(f"no sandbox works here: {'; '.join(reasons)}", hint=_HINT, code="no_sandbox")


def made(name: SandboxName, image: str) -> Sandbox:
    """Gives a sandbox without asking whether it works."""
    match name:
        case SandboxName.PODMAN | SandboxName.DOCKER:
            return Container(name, image)
        case SandboxName.NONE:
            return Unconfined()
        case SandboxName.BUBBLEWRAP | SandboxName.AUTO:
            return Bubblewrap()


def _hint(name: SandboxName, why: str) -> str:
    if name is SandboxName.BUBBLEWRAP and "namespaces" in why:
        return "unprivileged user namespaces are off here; docs/sandbox.md says how to allow them for bwrap"
    if "runs no container" in why:
        return f"is it there? `{name} pull` fetches an image; docs/sandbox.md says more"
    if "image" in why:
        return "name an image with the programs that your tasks use: HOLDFAST_SANDBOX_IMAGE=…"
    return _HINT
