"""The operations that a language model can call, of which LangChain tools and MCP tools are made.

An ``Operation`` has a name, a description, a class of arguments, a class of results and a function.
``perform`` runs one for a ``Caller``; what it raises is an ``OperationError`` whose text tells the
model what to do next. Nothing is imported here, since pydantic takes long to load.
"""
