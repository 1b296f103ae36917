"""`python -m dualres_plugin.cli` is the `dualres` command."""

from __future__ import annotations

from dualres_plugin.cli.app import main

if __name__ == "__main__":
    main()
