"""``python -m authz``: the command ``authz``."""

import sys

from authz.cli import main

if __name__ == "__main__":
    sys.exit(main())
