"""The words of the mq9 protocol: subjects, headers and JSON, encode and decode side by side.

The client encodes requests and decodes replies, the broker does the opposite, with the same
definitions: ``subjects`` for where a request goes, ``requests`` for its JSON, ``headers`` for the
options of SEND, ``replies`` for what comes back, ``checks`` for what a value may be.
"""
