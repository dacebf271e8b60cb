"""`python -m iirl_engine` is `iirl`."""

from iirl_engine.cli import main

main()
