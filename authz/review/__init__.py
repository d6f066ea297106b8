"""Review: for auditors: one library function behind each command of ``authz audit``.

Needs DuckDB, which the extra ``grpc-authz[review]`` brings; the log is verified without it.
"""
