"""What people are shown of all mail: conversations, links, and what is stuck.

``index`` takes messages in when somebody asks, a part at a time, into tables that are derived from
them; a SEND pays nothing for that. ``conversations``, ``stuck`` and ``own`` read.
"""
