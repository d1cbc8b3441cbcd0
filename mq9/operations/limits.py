"""Limits that a caller of the operations has by default, and the highest it may be given."""

DEFAULT_MAX_CHARS = 20_000
# Enough for the largest payload, were each byte of it written as an escape such as <U+200B>.
HIGHEST_MAX_CHARS = 10_000_000
DEFAULT_REGISTRATION_TTL_S = 30 * 86_400
DEFAULT_HOLD_S = 3_600
