"""Discovery: find agents by words or by meaning.

``search`` answers a query. ``index`` derives the text index and the stored vectors from the
registry. They are not part of the engine's state.
"""
