"""Claims: principal -> roles. What is proven of a caller becomes what the caller is, system-wide and by namespace."""
