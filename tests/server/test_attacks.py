"""A polite client beside some that mean harm: none of its mail is lost, and memory is bounded.

How long it waits is printed, not judged: that depends on the machine.
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path

import httpx
import pytest
from attackers import ATTACKS
from serving import Serving

from mq9 import Mq9Client

MOST_MEMORY = 1024 * 1024 * 1024  # of the server, at its highest, whatever is done to it
_SCRIPT = Path(__file__).with_name("attackers.py")


class Polite:
    """A client that sends itself a message, fetches it and acks it, over and over."""

    def __init__(self, url):
        self._client = Mq9Client(url, request_timeout=60)
        self._sent = 0
        self.seconds = []

    async def __aenter__(self):
        await self._client.__aenter__()
        await self._client.mailbox_create(name="polite")
        return self

    async def __aexit__(self, *exception):
        await self._client.__aexit__(*exception)

    async def turn(self):
        text = str(self._sent)
        sent = await self._timed(self._client.send("polite", text))
        fetched = await self._timed(
            self._client.fetch("polite", group_name="g", deliver="earliest", max_wait_ms=1_000)
        )
        assert [(one.text, one.msg_id, one.delivery_count) for one in fetched] == [(text, sent, 1)]
        assert await self._timed(self._client.ack("polite", "g", sent)) == [sent]
        self._sent += 1

    async def _timed(self, call):
        begun = time.perf_counter()
        result = await call
        self.seconds.append(time.perf_counter() - begun)
        return result

    def take(self):
        """Return the latencies since the last time: how many, the median, the 99th percentile."""
        *_, p99 = statistics.quantiles(self.seconds, n=100)
        taken = len(self.seconds), statistics.median(self.seconds), p99
        self.seconds.clear()
        return taken


def peak_memory(pid):
    """The most bytes that a process has had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


@pytest.mark.soak
@pytest.mark.programs
@pytest.mark.skipif(not Path("/proc").exists(), reason="memory is read from /proc")
async def test_a_polite_client_is_served_and_memory_is_bounded_whatever_others_do(
    tmp_path, scale, capsys
):
    def report(name, taken):
        count, median, p99 = taken
        with capsys.disabled():
            sys.stdout.write(
                f"\n{name:>10}: {count:>5} requests, median {median * 1000:7.1f} ms,"
                f" p99 {p99 * 1000:7.1f} ms, {p99 / quiet[-1]:5.1f} times quiet,"
                f" the server at most {peak_memory(serving.pid) // 2**20} MiB"
            )

    async with (
        Serving(tmp_path, "--data", str(tmp_path / "mq9.db"), admin=True) as serving,
        Polite(serving.url) as polite,
        httpx.AsyncClient(trust_env=False, timeout=60) as http,
    ):
        ready = serving.metrics_url.replace("/metrics", "/readyz")
        for _ in range(50 * scale):
            await polite.turn()
        quiet = polite.take()
        report("quiet", quiet)
        for name in ATTACKS:
            attacker = await asyncio.create_subprocess_exec(
                *(sys.executable, str(_SCRIPT), name),
                *(serving.url, serving.metrics_url, str(scale)),
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                assert await attacker.stdout.readline() == b"ready\n"
                ended = asyncio.create_task(attacker.wait())
                while not ended.done():
                    await polite.turn()
                    assert (await http.get(ready)).status_code == 200
                assert await ended == 0
            finally:
                if attacker.returncode is None:
                    attacker.kill()
                await attacker.wait()
            report(name, polite.take())
            metrics = (await http.get(serving.metrics_url)).text
            assert "mq9_storage_up 1.0" in metrics
            assert peak_memory(serving.pid) < MOST_MEMORY
