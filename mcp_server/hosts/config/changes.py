"""Changes to small files: looked at before they are made, and made as a whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mq9 import InvalidRequest

MOST_BYTES = 64 * 1024 * 1024  # of a file that is changed
_NEW_MODE = 0o600  # the settings of a server may hold a password


@dataclass(frozen=True, slots=True)
class Change:
    """What a file holds, and what it is to hold; None where there is no file.

    Attributes:
        path: The file itself, not a link to it.
        before: Its bytes when it was looked at.
        after: The bytes that it is to hold.
        is_secret: Whether only its owner may read it then.
    """

    path: Path
    before: bytes | None
    after: bytes | None
    is_secret: bool = False

    @property
    def is_change(self) -> bool:
        """Whether the file is to be another than it was, or to be read by fewer."""
        return self.before != self.after or self.closes

    @property
    def closes(self) -> bool:
        """Whether others can read the file now, and cannot then."""
        if not self.is_secret or self.before is None or os.name == "nt":
            return False
        try:
            return bool(stat.S_IMODE(self.path.stat().st_mode) & ~_NEW_MODE)
        except FileNotFoundError:  # it was removed, which is an error when the change is made
            return False

    def check(self) -> None:
        """Make sure that the file is still what it was.

        Raises:
            InvalidRequest: It is not, or it cannot be read.
        """
        if read(self.path) != self.before:
            raise InvalidRequest(
                f"{self.path} was changed by another program meanwhile, and was left as it is; "
                "try again"
            )

    def make(self) -> None:
        """Write or remove the file, if that changes anything.

        It keeps its mode, unless it becomes secret; a new one can be read by its owner only. What
        directories are missing are made.

        Raises:
            InvalidRequest: It is not what it was any more, or it cannot be written. It was left as
                it is.
        """
        if not self.is_change:
            return
        try:
            if self.after is None:
                self.check()
                self.path.unlink()
            else:
                self._replace(self.after)
        except OSError as error:
            raise InvalidRequest(
                f"{self.path} cannot be written: {error.strerror or error}"
            ) from None

    def _replace(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mode = _NEW_MODE
        if self.before is not None and not self.is_secret:
            mode = stat.S_IMODE(self.path.stat().st_mode)
        if self.before is not None and not os.access(self.path, os.W_OK):
            raise PermissionError(0, "it is read-only")  # to put another in its place would work
        with tempfile.NamedTemporaryFile(
            dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
        ) as file:
            beside = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                file.close()  # Windows moves no open files
                beside.chmod(mode)
                self.check()
                beside.replace(self.path)
            except BaseException:
                file.close()
                beside.unlink(missing_ok=True)
                raise


def read(path: Path) -> bytes | None:
    """Return the bytes of a file; None where there is none.

    Raises:
        InvalidRequest: It is no file, it cannot be read, or it has more than ``MOST_BYTES``.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidRequest(f"{path} is not a file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > MOST_BYTES:
        raise InvalidRequest(f"{path} has more than {MOST_BYTES:,} bytes")
    return content


def without_links(path: Path) -> Path:
    """Return the file that a path leads to in the end, whether it is there or not.

    Raises:
        InvalidRequest: The links lead round in a circle.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # the latter up to Python 3.12
        raise InvalidRequest(f"{path} is a link that leads nowhere") from None
