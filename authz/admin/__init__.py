"""For policy admins: one library function behind each `authz policy` command."""
