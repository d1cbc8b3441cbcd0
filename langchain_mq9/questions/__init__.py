"""Interrupts of a graph as mailed questions: ``interrupts`` reads them, ``records`` keeps them."""
