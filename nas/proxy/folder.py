"""Images in folders, one per class, of any size, mode and format Pillow reads, to one uint8 array."""
