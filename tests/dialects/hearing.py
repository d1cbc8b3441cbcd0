"""Clients of a server, what they are subscribed to and what they have been sent."""

import orjson

ROOT = "$mq9.AI."
PONG = ("PONG",)


class Post:
    """A server, somebody who asks it, and clients that listen.

    Args:
        hosted: The server.
    """

    def __init__(self, hosted):
        self.hosted = hosted
        self.clock = hosted.clock
        self._asker = None

    async def ask(self, verb, body=b"", headers=(), **who):
        """Make a request; its reply as parsed JSON."""
        if who:
            asker = await self.hosted.raw(**who)
        else:
            asker = self._asker = self._asker or await self.hosted.raw()
        reply = orjson.loads(await asker.ask(ROOT + verb, body, headers))
        if who:
            await asker.close()
        return reply

    async def send(self, *bodies, to="box", headers=()):
        """Send bodies to a mailbox."""
        for body in bodies:
            reply = await self.ask(f"MAILBOX.MSG.{to}", body.encode(), headers)
            assert reply["error"] == "", reply

    async def group(self, name):
        """Return what a group holds, and how much of it is unread."""
        reply = await self.ask("MAILBOX.STATUS.box", orjson.dumps({"group_name": name}))
        return reply["group"]

    async def made(self, name=None, kind="standard"):
        """Make a mailbox of the first generation; its address, and what asks what is unread."""
        made = await self.ask("MAILBOX.CREATE", orjson.dumps({"type": kind, "name": name}))
        body = orjson.dumps({"token": made["token"]})

        async def unread():
            await self.settle()
            reply = await self.ask(f"MAILBOX.QUERY.{made['mail_id']}", body)
            assert reply["unread"] == len(reply["messages"])
            return [one["payload"] for one in reply["messages"]]

        return made["mail_id"], unread

    async def listen(self, subject="MAILBOX.MSG.box", queue="", **options):
        """Return a client that is subscribed."""
        client = Listening(self, await self.hosted.raw(**options))
        await client.subscribe(subject, queue)
        return client

    async def settle(self):
        """Return when nothing happens any more until time passes."""
        await self.clock.advance(0)


class Listening:
    """A client that is subscribed, by numbers from 1."""

    def __init__(self, post, raw):
        self.raw = raw
        self._post = post
        self._subscriptions = 0

    async def subscribe(self, subject="MAILBOX.MSG.box", queue=""):
        """Subscribe, and see that the server knows."""
        self._subscriptions += 1
        self.raw.send(f"SUB {ROOT}{subject} {queue} {self._subscriptions}\r\n".encode())
        await self._post.settle()

    async def unsubscribe(self, sid=1, most=""):
        """End a subscription, or let it end by itself."""
        self.raw.send(f"UNSUB {sid} {most}\r\n".encode())
        await self._post.settle()

    async def frames(self):
        """Return all frames that have been sent since, and see that there are no more."""
        frames = []
        pings = None
        while pings != self.raw.pings:  # an answer to one confirms messages, so more may come
            pings = self.raw.pings
            await self._post.settle()
            self.raw.send(b"PING\r\n")
            while (frame := await self.raw.frame()) != PONG:
                frames.append(frame)
        await self._post.settle()
        return frames

    async def heard(self):
        """Return the bodies of the messages that have been sent since."""
        frames = await self.frames()
        assert {frame[0] for frame in frames} <= {"MSG", "HMSG"}, frames
        return [frame[3].decode() for frame in frames]

    async def leave(self):
        """End the connection."""
        await self.raw.close()
        await self._post.settle()


def headers_of(frame):
    """Return the headers of a message, as pairs."""
    first, *lines = frame[2].decode().removesuffix("\r\n\r\n").split("\r\n")
    assert first == "NATS/1.0"
    return [tuple(line.split(": ", 1)) for line in lines]
