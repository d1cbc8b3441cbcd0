"""Running programs of others to their end, with nothing of this user and on loopback only."""

import os
import signal
import subprocess

from tests.hosts.scripted_model import PROMPT

_TIMEOUT_S = 300
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_NO_PROXY = ("NO_PROXY", "no_proxy")


def run(command, *, home, model, directory, path=(), variables=None):
    """Run a command to its end, and whatever it has started.

    Args:
        command: With its words.
        home: The home directory that it has.
        model: A `ScriptedModel`, which is its proxy, too, and lets nobody out.
        directory: Where it runs.
        path: Directories of programs, beside those of the system.
        variables: Of its environment, beside these.

    Returns:
        What it printed.

    Raises:
        AssertionError: It failed.
        subprocess.TimeoutExpired: It did not end in time.
    """
    environment = {
        "HOME": str(home),
        "PATH": os.pathsep.join([*map(str, path), os.defpath]),
        **dict.fromkeys(_PROXIES, model.url),
        **dict.fromkeys(_NO_PROXY, "127.0.0.1,localhost"),
        **(variables or {}),
    }
    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
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
            _end_group(process.pid)
    assert process.returncode == 0, printed
    return printed


def run_steps(model, steps, command, **options):
    """Run a command, with the prompt as the last word, that does what a model says.

    Args:
        model: The model.
        steps: What it says, as `ScriptedModel.begin` takes it.
        command: With its words.
        options: As `run` takes them.

    Returns:
        What the model saw of it.

    Raises:
        AssertionError: It failed, or did not ask.
        subprocess.TimeoutExpired: It did not end in time.
    """
    model.begin(steps)
    printed = run([*command, PROMPT], model=model, **options)
    assert model.seen.offered, printed
    return model.seen


def _end_group(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, with all that it started
        return
