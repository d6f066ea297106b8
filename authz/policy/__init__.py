"""Policy: files -> revision. A bundle is read strictly, all or nothing, and becomes one immutable revision."""
