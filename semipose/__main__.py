"""`python -m semipose` is `semipose`."""

import sys

from semipose.cli import main

sys.exit(main())
