"""THE CORE: consensus as a deterministic state machine without I/O."""
