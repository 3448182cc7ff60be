"""``python -m meshnode``."""

from meshnode.cli import main

main()
