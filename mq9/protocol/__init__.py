"""The mq9 protocol: subjects, headers and JSON, with encoding and decoding side by side.

The client encodes requests and decodes replies. The broker does the opposite with the same
definitions. ``verbs`` is the table of all verbs, ``requests`` has their requests, ``replies`` their
replies, ``subjects`` their subjects, and ``checks`` the rules of values. ``older_priorities`` has
the priorities of older generations.
"""
