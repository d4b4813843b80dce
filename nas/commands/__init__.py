"""The verbs of the command line, one subject a file: strings in, api calls, text or JSON out."""
