"""A fake broker that other processes share, with its clock.

``frames`` is what both sides say, ``serving`` the side of the process that owns broker and clock,
``joining`` that of the others, ``following_clock`` the clock of these.

The clock may go on only when nothing can run in any process. So every process tells the owner when
nothing can run in it, what it waits for, and how many frames it had received by then. Frames come
in order: by that number the owner knows whether the process has seen all that it was sent, and what
the process has sent before is there by then, too. Each move of the clock is told to every process,
and counts as a frame, so that the clock waits for all before it moves again.
"""
