"""Discovery: agents found by words or by meaning.

``search`` answers a question. ``index`` keeps the text index and the stored vectors in step with
the registry, from which they are derived: none of it is part of the engine's state.
"""
