"""The catalog: one file a study."""
