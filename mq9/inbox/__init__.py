"""The questions in a person's mailbox: open ones, answers, postponed ones, and past decisions.

The command line and the desk share it. The format of a question is in ``mq9.questions``.
"""
