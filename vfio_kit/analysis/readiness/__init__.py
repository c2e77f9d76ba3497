"""Whether host and device are ready for a passthrough."""
