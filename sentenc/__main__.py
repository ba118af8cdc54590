"""``python -m sentenc``: the command line."""

from sentenc.cli import main

if __name__ == "__main__":
    main()
