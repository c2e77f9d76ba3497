"""`python -m vfio_kit`."""

from vfio_kit.cli import main

if __name__ == "__main__":
    main()
