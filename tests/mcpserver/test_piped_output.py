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


def run(**streams):
    """Run a program that prints while its output is taken."""
    command = [sys.executable, "-c", textwrap.dedent(PRINTING)]
    return subprocess.run(command, check=True, text=True, stderr=subprocess.PIPE, **streams)


@pytest.mark.programs
def test_what_is_printed_meanwhile_goes_to_standard_error():
    done = run(stdout=subprocess.PIPE)
    assert (done.stdout, done.stderr) == ("message\nafter\n", "stray\nastray\n")


@pytest.mark.programs
def test_what_is_no_pipe_is_left_alone(tmp_path):
    with (tmp_path / "out").open("w") as file:
        done = run(stdout=file)
    assert (tmp_path / "out").read_text() == "stray\nastray\nafter\n"
    assert done.stderr == ""
