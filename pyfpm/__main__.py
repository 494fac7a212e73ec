"""python -m pyfpm: the same as the command `pyfpm`."""

from pyfpm.cli.main import main

if __name__ == "__main__":
    main()
