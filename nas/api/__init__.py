"""What `import nas` offers; the only room that wires the others together."""
