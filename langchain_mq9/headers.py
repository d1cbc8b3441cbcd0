"""Headers of messages that workers send and understand."""

CONVERSATION = "conversation"  # by which a sender names a conversation
PROGRESS = "progress"  # tells a message about progress from an answer
PROGRESS_OF = "progress-of"  # names the question that such a message belongs to
