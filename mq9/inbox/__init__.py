"""The questions in a person's mailbox: found, answered, put off, and what was decided.

The command line and the desk share it. The format of a question is in ``mq9.questions``.
"""
