"""MCP over streamable HTTP: routes, authentication, origins and sessions."""
