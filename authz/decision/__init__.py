"""Decision: claims x call -> allow or deny, with the rule that decided."""
