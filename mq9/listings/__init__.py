"""Lists of all mail for people: conversations, links, and stuck messages.

``index`` takes messages in when somebody asks, a part at a time, into tables that are derived from
them; a SEND pays nothing for that. ``conversations``, ``stuck`` and ``own`` read.
"""
