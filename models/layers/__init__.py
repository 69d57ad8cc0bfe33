"""Layers that several families share, one subject a file."""
