"""What a model was told, and in which role: the texts of a request of any dialect."""

TOOL = "tool"  # what a tool has answered


def passages(body):
    """Return the role and the text of all that a request holds for the model to read."""
    found = [("system", text) for text in _texts(body.get("system"))]
    found += [("system", text) for text in _texts(body.get("instructions"))]
    found += [("system", text) for text in _texts(body.get("systemInstruction"))]
    for message in body.get("messages") or body.get("input") or body.get("contents") or ():
        role = TOOL if _is_answer(message) else message.get("role") or message.get("type")
        content = message.get("content") or message.get("parts") or message.get("output")
        if not isinstance(content, list):
            found += [(role, text) for text in _texts(content)]
            continue
        for part in content:
            found += [(TOOL if _is_answer(part) else role, text) for text in _texts(part)]
    return found


def _is_answer(part):
    return (
        part.get("type") in {"tool_result", "function_call_output"}
        or part.get("role") == "tool"
        or "functionResponse" in part
    )


def _texts(value):
    """Return all texts in a value that are not the names of something."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    if isinstance(value, dict):
        names = {"type", "role", "id", "tool_use_id", "call_id", "name", "cache_control"}
        return [text for key, one in value.items() if key not in names for text in _texts(one)]
    return []
