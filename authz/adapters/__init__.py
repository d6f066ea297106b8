"""Adapters: the policy enforcement points. Each turns what a server sees into a Call and credentials, and enforces."""
