"""authz: who may call what, in which namespace."""
