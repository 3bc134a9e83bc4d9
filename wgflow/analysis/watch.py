"""``python -m wgflow.analysis.watch`` is ``wgflow watch``."""

import sys

from wgflow.cli.runs import watch as main

if __name__ == "__main__":
    sys.exit(main())
