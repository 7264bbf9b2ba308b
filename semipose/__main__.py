"""`python -m semipose` is `semipose`."""

import sys

from semipose.cli.main import main

sys.exit(main())
