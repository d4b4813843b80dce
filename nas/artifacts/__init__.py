"""What is shipped: exported files, their int8 versions, and the check against the target."""
