"""Running programs of others to their end, with nothing of this user and on loopback only."""

import os
import signal
import subprocess

from tests.hosts.scripted_model import PROMPT

_TIMEOUT_S = 300
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_NO_PROXY = ("NO_PROXY", "no_proxy")


def environment(*, home, model, path=(), variables=None):
    """Return the variables of a host: none of this user's, and no way to another machine."""
    return {
        "HOME": str(home),
        "PATH": os.pathsep.join([*map(str, path), os.defpath]),
        **dict.fromkeys(_PROXIES, model.url),
        **dict.fromkeys(_NO_PROXY, "127.0.0.1,localhost"),
        **(variables or {}),
    }


def run(command, *, directory, **options):
    """Run a command to its end, and whatever it has started."""
    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment(**options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=_TIMEOUT_S)
        finally:
            end_group(process.pid)
    assert process.returncode == 0, printed
    return printed


def run_steps(model, steps, command, *, at_end=None, **options):
    """Run a command, with the prompt as the last word, that does what a model says."""
    model.begin(steps, at_end)
    printed = run([*command, PROMPT], model=model, **options)
    assert model.seen.offered, printed
    return model.seen


def end_group(group):
    """End a process and all that it started."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, with all that it started
        return
