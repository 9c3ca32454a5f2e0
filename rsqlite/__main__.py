"""`python -m rsqlite` is the `rsqlite` command."""

from rsqlite.cli.main import main

if __name__ == "__main__":
    main()
