"""The machine, the user and the project that a host is installed for."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mq9 import InvalidRequest


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides where files lie.

    Attributes:
        platform: As ``sys.platform`` says it: ``win32``, ``darwin``, or Linux and alike.
        home: The user's home directory.
        environment: The environment variables.
        project: The directory of the project, for what is installed in one only.
    """

    platform: str
    home: Path
    environment: Mapping[str, str]
    project: Path

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine, this user and the working directory.

        Raises:
            InvalidRequest: The user has no home directory, or the working directory was removed.
        """
        try:
            return cls(sys.platform, Path.home(), dict(os.environ), Path.cwd())
        except RuntimeError as error:
            raise InvalidRequest(f"home: {error}; set HOME") from None
        except OSError as error:
            raise InvalidRequest(f"project: no working directory: {error.strerror}") from None

    def directory(self, variable: str) -> Path | None:
        """Return the directory or file that an environment variable names, if it names one.

        A relative path means another place each time, and does not count.
        """
        path = Path(self.environment.get(variable, ""))
        return path if path.is_absolute() else None

    @property
    def settings(self) -> Path:
        """Where programs with windows keep this user's settings."""
        if self.platform == "win32":
            return self.directory("APPDATA") or self.home / "AppData" / "Roaming"
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.dot_config

    @property
    def dot_config(self) -> Path:
        """Where programs keep settings that follow the habits of Linux on every system."""
        return self.directory("XDG_CONFIG_HOME") or self.home / ".config"

    @property
    def local_data(self) -> Path:
        """Where programs on Windows keep what stays on this machine."""
        return self.directory("LOCALAPPDATA") or self.home / "AppData" / "Local"

    def package(self, pattern: str, file: str) -> Path | None:
        """Return a file of a program that came as a package of Windows (MSIX).

        What such a program writes below ``AppData`` lands in a directory of its own.

        Args:
            pattern: Matches the name of the package's directory.
            file: What is looked for, as the program sees it below ``AppData``.

        Returns:
            The file, whether it is there or not; None where there is no such package. Of several
            the one that has the file.
        """
        if self.platform != "win32":
            return None
        found = [
            one / file for one in sorted(self.local_data.glob(f"Packages/{pattern}/LocalCache"))
        ]
        return next((one for one in found if one.exists()), found[0] if found else None)

    def program(self, name: str) -> Path | None:
        """Return the program that a name means, if there is one on PATH that can be started safely.

        On Windows only an ``.exe`` is: a script there splits its arguments by other rules.
        """
        wanted = f"{name}.exe" if self.platform == "win32" else name
        path = shutil.which(wanted, path=self.environment.get("PATH", ""))
        # A relative directory would be another one elsewhere.
        return Path(path) if path is not None and Path(path).is_absolute() else None
