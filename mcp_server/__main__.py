"""``python -m mcp_server`` is ``mq9-mcp``, where no other package has a module of that name."""

from mq9.cli import mcp_main

if __name__ == "__main__":
    mcp_main()
