"""A graph that is run by mail: one run for each message, in the thread of its conversation."""

from langchain_mq9.worker.reports import WorkerCounters
from langchain_mq9.worker.worker import MailboxWorker, WorkerOptions

__all__ = ["MailboxWorker", "WorkerCounters", "WorkerOptions"]
