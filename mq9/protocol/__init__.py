"""The words of the mq9 protocol: subjects, headers and JSON, encode and decode side by side.

The client encodes requests and decodes replies, the broker does the opposite, with the same
definitions: ``verbs`` is the table of all verbs, ``requests`` has what travels for each,
``replies`` what comes back, ``subjects`` where a request goes, ``checks`` what a value may be.
``older_priorities`` are the words of older generations.
"""
