"""Headers of messages that workers understand."""

CONVERSATION = "conversation"  # by which a sender names a conversation
