"""Helpers for threads and tasks that several packages share."""
