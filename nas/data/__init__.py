"""Images to train on: folders, downloadable sets and the generated set."""
