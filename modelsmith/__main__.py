"""``python -m modelsmith``."""

from modelsmith.cli.main import main

main()
