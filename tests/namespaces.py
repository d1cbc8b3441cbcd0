"""Networks and file systems that only the programs of a test see.

Each is held by a program that ends with this process, however that ends; nothing of them stays.
"""

import ctypes
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000


def why_not(*programs):
    """Why there can be none here, if so; where `programs` are needed besides."""
    for program in ("unshare", "nsenter", *programs):
        if shutil.which(program) is None:
            return f"there is no {program}"
    command = [_program("unshare"), "--net", "--mount", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() or None


def _program(name):
    return shutil.which(name) or name


class Namespace:
    """What programs see that are run with `prefix`.

    Args:
        kind: `net` or `mount`.
        script: What is done there first.
        arguments: Of the script.

    Attributes:
        pid: Of the program that holds it.
        prefix: What to run a command with.
    """

    def __init__(self, kind, script="true", *arguments):
        script = f"{script} && echo made && exec cat"
        self._holder = subprocess.Popen(
            [_program("unshare"), f"--{kind}", "sh", "-c", script, "sh", *map(str, arguments)],
            stdin=subprocess.PIPE,  # whose end comes with that of this process
            stdout=subprocess.PIPE,
        )
        self.pid = self._holder.pid
        self.prefix = ("nsenter", "--target", str(self.pid), f"--{kind}")

    def __enter__(self):
        assert self._holder.stdout.readline() == b"made\n"
        return self

    def __exit__(self, *exception):
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()


class SmallDisk:
    """A file system of some MiB that only programs see that are run with `prefix`.

    Args:
        directory: Where it is.
        mebibytes: How large it is.
        stack: Ends it.
    """

    def __init__(self, directory, mebibytes, stack):
        directory.mkdir(parents=True, exist_ok=True)
        script = f'mount -t tmpfs -o size={mebibytes}m none "$1"'
        space = stack.enter_context(Namespace("mount", script, directory))
        self.prefix = space.prefix
        self._there = Path(f"/proc/{space.pid}/root{directory}")
        self._filler = self._there / "filler"

    @property
    def free(self):
        """How many bytes there is room for."""
        found = os.statvfs(self._there)
        return found.f_bavail * found.f_frsize

    def there(self, name):
        """Return the path of one of its files for this process."""
        return self._there / name

    def fill(self, left):
        """Leave room for so many bytes."""
        self._filler.write_bytes(bytes(self.free - left))

    def empty(self):
        """Make room again."""
        self._filler.unlink()


class Network:
    """Machines on a network, to which clients are connected too, and on one among themselves.

    Args:
        stack: Ends it.
    """

    def __init__(self, stack):
        self._stack = stack
        self._hub = stack.enter_context(Namespace("net"))
        self._prefixes = {}
        self._ip(
            "link set lo up",
            *(f"link add {net} type bridge" for net in ("outer", "inner")),
            *(f"link set {net} up" for net in ("outer", "inner")),
            "address add 10.0.0.254/24 dev outer",
        )

    @contextmanager
    def entered(self):
        """Be where the clients are; in this thread, and in those that it starts meanwhile."""
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(pid):
            with Path(f"/proc/{pid}/ns/net").open() as space:
                if libc.setns(space.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")

        with Path("/proc/thread-self/ns/net").open() as before:
            enter(self._hub.pid)
            try:
                yield
            finally:
                if libc.setns(before.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")

    def machine(self, number):
        """Add one; `prefix` to run programs there, and its addresses, outer and inner."""
        space = self._stack.enter_context(Namespace("net", "ip link set lo up"))
        addresses = [f"10.0.{place}.{number + 1}" for place in (0, 1)]
        for net, address in zip(("outer", "inner"), addresses, strict=True):
            self._ip(f"link add {net}{number} type veth peer name {net} netns {space.pid}")
            self._ip(f"link set {net}{number} master {net} up")
            there = [f"address add {address}/24 dev {net}", f"link set {net} up"]
            _run_ip(space.prefix, there)
        return space.prefix, *addresses

    def cut(self, net, number):
        """Have a machine's packets on a network go nowhere, and none come."""
        self._ip(f"link set {net}{number} nomaster")

    def heal(self, net, number):
        """Have them go again."""
        self._ip(f"link set {net}{number} master {net}")

    def _ip(self, *lines):
        _run_ip(self._hub.prefix, lines)


def _run_ip(prefix, lines):
    command = [*prefix, "ip", "-batch", "-"]
    done = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
