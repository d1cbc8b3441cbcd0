"""`mq9 hash-password`."""

import os
import subprocess
import sys

import pytest

from mq9.server import passwords


def test_a_password_from_standard_input_is_hashed(mq9):
    done = mq9.ok("hash-password", stdin="correct horse\n")

    assert done.out.count("\n") == 1
    assert passwords.parse("password", done.out.strip()).matches("correct horse")
    assert "horse" not in done.out + done.err
    again = mq9.ok("hash-password", "--json", stdin="correct horse").document
    assert again["password"] != done.out.strip()


@pytest.mark.parametrize("given", ["", "\n", "a\tb", "x" * 1025], ids=repr)
def test_what_is_no_password_is_refused_without_showing_it(mq9, given):
    done = mq9("hash-password", stdin=given)

    assert (done.code, done.out) == (2, "")
    assert "give 1 to 1024 printable ones" in done.err
    assert "xxx" not in done.err


@pytest.mark.programs
def test_on_a_terminal_it_is_asked_for_twice_and_not_shown():
    pty = pytest.importorskip("pty")
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mq9", "hash-password"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        seen = b""
        for _ in range(2):
            while not seen.endswith(b": "):
                seen += os.read(controller, 1024)
            os.write(controller, b"correct horse\n")
            seen += b"|"
        out = process.communicate(timeout=60)[0].decode()
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    assert passwords.parse("password", out.strip()).matches("correct horse")
    assert b"horse" not in seen
