"""Lists of all mail for people: conversations, links, and stuck messages.

``index`` keeps tables that are derived from messages. A listing updates them, a part at a time, so
they cost a SEND nothing. ``conversations``, ``stuck`` and ``own`` read them.
"""
