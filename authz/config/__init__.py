"""Config: YAML -> Engine, the only composition root."""
