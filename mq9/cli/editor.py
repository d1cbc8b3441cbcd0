"""Lets a person change a text in an editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from mq9.errors import InvalidRequest

_VARIABLES = ("VISUAL", "EDITOR")
_DEFAULT = "vi"


def edit(text: str, suffix: str) -> str:
    """Open a text in the editor that the environment names, and return what it was made.

    Args:
        text: What there is to begin with.
        suffix: What the name of the file ends with, by which editors know its language.

    Raises:
        InvalidRequest: There is no such editor, or it says that it failed.
    """
    editor = next((os.environ[one] for one in _VARIABLES if os.environ.get(one)), _DEFAULT)
    with tempfile.TemporaryDirectory(prefix="mq9-") as directory:
        path = Path(directory) / f"edit{suffix}"
        path.write_text(text, "utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)  # noqa: S603  # the user's
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise InvalidRequest(f"the editor {editor!r} failed: {error}") from None
        return path.read_text("utf-8")
