"""An MCP server over stdio whose tool returns a constant: what the MCP SDK alone takes."""

from mcp.server import MCPServer

server = MCPServer("constant")


@server.tool()
async def send_message(mail_address: str, content: str, key: str) -> str:
    """Send a message, or so it says."""
    return f"{mail_address}: {len(content)} characters under {key}"


if __name__ == "__main__":
    server.run("stdio")
