"""Audit: decision -> record -> log. One record for each decision, in the log before the answer is enforced."""
