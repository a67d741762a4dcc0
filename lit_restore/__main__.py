import sys

from lit_restore.cli import main

sys.exit(main())
