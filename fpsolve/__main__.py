"""`python -m fpsolve`."""

from fpsolve.cli import main

if __name__ == "__main__":
    main()
