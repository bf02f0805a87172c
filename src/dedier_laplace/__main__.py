"""`python -m dedier_laplace` is the same as `dedier`."""

from dedier_laplace.cli import main

if __name__ == "__main__":
    main()
