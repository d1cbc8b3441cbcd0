"""The programs that start MCP servers: their configurations, installing into them, the doctor."""
