"""The command line: strings in, calls of `nas.api`, exit codes out."""
