"""Mail that arrives by itself: notices for the hooks and watchers of hosts.

A host's hook starts ``mq9-mcp hook``, its watcher is ``mq9-mcp watch``. Both ask the server that
the host runs, over a port of this machine. The server asks the broker.
"""
