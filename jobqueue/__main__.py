"""`python -m jobqueue`."""

from jobqueue.cli.main import main

if __name__ == "__main__":
    main()
