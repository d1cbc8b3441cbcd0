"""``mq9 exec``: a command that is run for each message of an agent.

``command`` holds the options. ``worker`` takes the messages and does with each what follows from
how its command ended. ``process`` runs one command, and ``guard``, a program of its own, ends it.
``template`` makes the arguments, ``environment`` the variables. ``sessions`` keeps what a host
needs to go on with a conversation, ``presets`` knows hosts, ``senders`` says who may send.
"""
