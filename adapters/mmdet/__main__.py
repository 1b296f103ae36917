"""Command line: write the router folder of a checkpoint that mmdet trained."""

from __future__ import annotations

import argparse

from dualres_plugin.adapters.mmdet.checkpoints import export_router


def main(arguments: list[str] | None = None) -> None:
    """Command line: write the router folder of a wrapped checkpoint."""
    parser = argparse.ArgumentParser(description="Write the router of a checkpoint that mmdet trained as a folder.")
    parser.add_argument("checkpoint", help="a .pth of a routed detector; the config in it is read, not run")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--config", help="config file, run as code, for checkpoints without a plain config")
    options = parser.parse_args(arguments)
    print(f"router: {export_router(options.checkpoint, options.out, options.config)}")


if __name__ == "__main__":
    main()
