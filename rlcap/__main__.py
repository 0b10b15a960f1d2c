"""`python -m rlcap`, as launchers start it."""

from rlcap.cli import main

if __name__ == "__main__":
    main()
