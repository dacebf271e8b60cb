"""gymnasium for iirl-engine: demonstrations from real environments."""
