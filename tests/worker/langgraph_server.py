"""A stand-in for a server of LangGraph: the part of its API that a worker uses, over one graph."""

import json

import httpx
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def written(state):
    """A snapshot as the server writes it."""
    return {
        "values": state.values,
        "next": list(state.next),
        "checkpoint": state.config["configurable"],
        "metadata": dict(state.metadata or {}),
        "created_at": state.created_at,
        "parent_checkpoint": state.parent_config and state.parent_config["configurable"],
        "tasks": [
            {
                "id": one.id,
                "name": one.name,
                "error": one.error,
                "interrupts": [{"value": each.value, "id": each.id} for each in one.interrupts],
                "checkpoint": None,
                "state": None,
                "result": one.result,
            }
            for one in state.tasks
        ],
        "interrupts": [{"value": each.value, "id": each.id} for each in state.interrupts],
    }


class Served:
    """Serves a graph with a checkpointer. The state of a thread that has none is not found."""

    def __init__(self, graph):
        self._graph = graph
        self.app = Starlette(
            routes=[
                Route("/threads/{thread}/state", self.state, methods=["GET"]),
                Route("/threads/{thread}/state/checkpoint", self.state, methods=["POST"]),
                Route("/threads/{thread}/history", self.history, methods=["POST"]),
                Route("/threads/{thread}/runs/stream", self.stream, methods=["POST"]),
            ]
        )
        self.durabilities = set()

    def _config(self, request):
        return {"configurable": {"thread_id": request.path_params["thread"]}}

    async def state(self, request):
        state = await self._graph.aget_state(self._config(request))
        if state.metadata is None:
            return JSONResponse({"detail": "there is no such thread"}, 404)
        return Response(to_json(written(state)), media_type="application/json")

    async def history(self, request):
        asked = json.loads(await request.body())
        states = self._graph.aget_state_history(
            self._config(request), filter=asked.get("metadata"), limit=asked["limit"]
        )
        found = [written(one) async for one in states]
        return Response(to_json(found), media_type="application/json")

    async def stream(self, request):
        asked = json.loads(await request.body())
        self.durabilities.add(asked["durability"])
        config = dict(asked["config"])
        config["configurable"] = {**config.get("configurable", {}), **request.path_params}
        config["configurable"]["thread_id"] = request.path_params["thread"]
        given = Command(**asked["command"]) if asked.get("command") else asked.get("input")
        events = b""
        try:
            async for mode, data in self._graph.astream(
                given, config, stream_mode=asked["stream_mode"], durability="sync"
            ):
                events += b"event: %s\ndata: %s\n\n" % (mode.encode(), to_json(data))
        except Exception as error:  # noqa: BLE001  # a server tells its client of any
            told = {"error": type(error).__name__, "message": str(error)}
            events += b"event: error\ndata: %s\n\n" % to_json(told)
        return Response(events, media_type="text/event-stream")

    def remote(self):
        """The graph as a client of the server has it."""
        transport = httpx.ASGITransport(self.app)
        client = httpx.AsyncClient(transport=transport, base_url="http://langgraph")
        return RemoteGraph("law", client=LangGraphClient(client))
