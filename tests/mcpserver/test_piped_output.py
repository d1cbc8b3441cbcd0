"""Standard output of an MCP server, where it is a pipe."""

import asyncio
import os
import subprocess
import sys
import textwrap

import pytest

from mcp_server.stdio import PipedOutput

PRINTING = """
    import asyncio
    import os
    from mcp_server.stdio import piped_output

    async def main():
        with piped_output() as output:
            print("stray", flush=True)
            os.write(1, b"astray\\n")
            if output is not None:
                await output.write("message\\n")
        print("after")

    asyncio.run(main())
"""


@pytest.fixture
def pipe():
    """The two ends of a pipe; one is read from, the other written to."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as read_end, os.fdopen(writing, "wb") as write_end:
        yield read_end, write_end


# All of it is more than a pipe holds.
@pytest.mark.parametrize(
    "texts",
    [[f"{number}".rjust(4000, "x") for number in range(100)], ["x" * 400_000, "y"]],
    ids=["many", "long"],
)
async def test_a_client_that_does_not_read_holds_up_nobody_else(pipe, texts):
    reading, writing = pipe
    output = PipedOutput(writing)

    async def write():
        for text in texts:
            await output.write(text)

    writes = asyncio.create_task(write())
    await asyncio.sleep(0)  # would the event loop wait for the pipe, nobody would read
    assert not writes.done()
    expected = "".join(texts)
    read = await asyncio.to_thread(reading.read, len(expected))
    await writes
    assert read.decode() == expected


async def test_a_client_that_is_gone_is_an_error(pipe):
    reading, writing = pipe
    reading.close()
    output = PipedOutput(writing)
    with pytest.raises(BrokenPipeError):
        await output.write("message\n")
    with pytest.raises(BrokenPipeError):
        writing.close()  # which tries once more


@pytest.mark.programs
@pytest.mark.parametrize(
    ("is_pipe", "out", "err"),
    [(True, "message\nafter\n", "stray\nastray\n"), (False, "stray\nastray\nafter\n", "")],
)
def test_what_is_printed_into_a_pipe_meanwhile_goes_to_standard_error(tmp_path, is_pipe, out, err):
    command = [sys.executable, "-c", textwrap.dedent(PRINTING)]
    with (tmp_path / "out").open("w") as file:
        streams = {"stdout": subprocess.PIPE if is_pipe else file, "stderr": subprocess.PIPE}
        done = subprocess.run(command, check=True, text=True, **streams)
    printed = done.stdout if is_pipe else (tmp_path / "out").read_text()
    assert (printed, done.stderr) == (out, err)
