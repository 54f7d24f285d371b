"""``python -m vje_pyro`` is the console command ``vje``."""

from vje_pyro.cli import main

if __name__ == "__main__":
    main()
