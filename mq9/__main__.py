"""``python -m mq9``: the same as the command ``mq9``."""

from mq9.cli import main

if __name__ == "__main__":
    main()
