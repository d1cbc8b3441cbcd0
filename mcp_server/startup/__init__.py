"""The first answers on standard input and output, given before the MCP SDK is loaded."""
