"""An incident to practise on: the audit log of an afternoon on which a policy went wrong."""
