"""Run the command line as `python -m semipose`."""

import sys

from semipose.cli.main import main

sys.exit(main())
