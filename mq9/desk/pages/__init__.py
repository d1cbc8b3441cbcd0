"""The screens of the desk, a module each."""
