"""The command line: `app` puts the commands together, one file per group of commands."""
