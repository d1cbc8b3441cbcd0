"""``python -m mcp_server`` is ``mq9-mcp``, where no other package has a module of that name."""

from mcp_server.program import main

if __name__ == "__main__":
    main()
