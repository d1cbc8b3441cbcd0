"""demo."""

from mq9.cli.demo import play
from mq9.testing import ManualClock

TOLD = (
    "stored",
    "leased for 1 s",
    "crashes before it has acked",
    "message 0 again, delivery 2",
    "acks",
    "from translator, verified by the broker: Bonjour",
)


def assert_told(steps):
    steps = iter(steps)
    for words in TOLD:
        assert any(words in step for step in steps), words


async def test_the_demo_plays_by_the_clock_that_it_is_given():
    steps = []
    clock = ManualClock(autojump=True)
    begin = clock.now_ms()
    await play(steps.append, clock)
    assert_told(steps)
    assert clock.now_ms() - begin == 1_000


def test_the_demo_needs_no_broker(mq9):
    mq9.url = "nats://127.0.0.1:1"
    assert_told(mq9.ok("demo").out.splitlines())
    assert_told(mq9.ok("demo", "--json").document["steps"])
