"""What the tools in a guest say of its health."""
