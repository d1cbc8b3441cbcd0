"""Files of users, which only their owner may read, as the server asks for."""


def write_users(directory, text, name="users.toml"):
    """Write a file of users; its path."""
    path = directory / name
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path
