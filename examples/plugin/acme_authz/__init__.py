"""What authz does in the company Acme alone: one plugin for each of the four extension points."""
