"""Former name of ``wgflow export``; ``python -m wgflow.analysis.export`` still works."""

import sys

from wgflow.report.export import main

if __name__ == "__main__":
    sys.exit(main())
