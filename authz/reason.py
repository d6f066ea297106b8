"""Reason: why a decision came out as it did, as a code that machines and audit queries can rely on.

The codes are part of the public interface: they are added to, not renamed. The member's ``status`` is the gRPC status
name that an enforcement point answers with.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A reason code, e.g. ``Reason.TOKEN_EXPIRED`` (``"token_expired"``), and its gRPC ``status`` name."""

    status: str

    def __new__(cls, value: str, status: str) -> Reason:
        """A member from its code and its gRPC status name."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.status = status
        return member

    # decided by policy
    ALLOWED = "allowed", "OK"
    DENIED_BY_RULE = "denied_by_rule", "PERMISSION_DENIED"
    NO_RULE = "no_rule", "PERMISSION_DENIED"

    # decided by the call itself
    METHOD_UNKNOWN = "method_unknown", "PERMISSION_DENIED"
    METHOD_MALFORMED = "method_malformed", "PERMISSION_DENIED"
    NAMESPACE_UNREADABLE = "namespace_unreadable", "PERMISSION_DENIED"
    NAMESPACE_MALFORMED = "namespace_malformed", "PERMISSION_DENIED"
    NAMESPACE_UNEXPECTED = "namespace_unexpected", "PERMISSION_DENIED"

    # the credential
    CREDENTIAL_MISSING = "credential_missing", "UNAUTHENTICATED"
    CREDENTIAL_MALFORMED = "credential_malformed", "UNAUTHENTICATED"
    CREDENTIAL_REPEATED = "credential_repeated", "UNAUTHENTICATED"
    CREDENTIAL_FORWARDER_UNKNOWN = "credential_forwarder_unknown", "UNAUTHENTICATED"
    CREDENTIAL_REVOKED = "credential_revoked", "UNAUTHENTICATED"
    CREDENTIAL_EXPIRED = "credential_expired", "UNAUTHENTICATED"
    CREDENTIAL_UNSUPPORTED = "credential_unsupported", "UNAUTHENTICATED"

    PEER_LIMITED = "peer_limited", "RESOURCE_EXHAUSTED"

    # bearer tokens
    TOKEN_TOO_LARGE = "token_too_large", "UNAUTHENTICATED"
    TOKEN_MALFORMED = "token_malformed", "UNAUTHENTICATED"
    TOKEN_ALGORITHM_REFUSED = "token_algorithm_refused", "UNAUTHENTICATED"
    TOKEN_TYPE_REFUSED = "token_type_refused", "UNAUTHENTICATED"
    TOKEN_CRITICAL_REFUSED = "token_critical_refused", "UNAUTHENTICATED"
    TOKEN_KEY_UNKNOWN = "token_key_unknown", "UNAUTHENTICATED"
    TOKEN_SIGNATURE_WRONG = "token_signature_wrong", "UNAUTHENTICATED"
    TOKEN_CLAIM_MISSING = "token_claim_missing", "UNAUTHENTICATED"
    TOKEN_CLAIM_MALFORMED = "token_claim_malformed", "UNAUTHENTICATED"
    TOKEN_ISSUER_UNKNOWN = "token_issuer_unknown", "UNAUTHENTICATED"
    TOKEN_AUDIENCE_WRONG = "token_audience_wrong", "UNAUTHENTICATED"
    TOKEN_EXPIRED = "token_expired", "UNAUTHENTICATED"
    TOKEN_NOT_YET_VALID = "token_not_yet_valid", "UNAUTHENTICATED"
    TOKEN_CONDITION_FAILED = "token_condition_failed", "UNAUTHENTICATED"
    TOKEN_BINDING_UNSUPPORTED = "token_binding_unsupported", "UNAUTHENTICATED"
    TOKEN_BINDING_WRONG = "token_binding_wrong", "UNAUTHENTICATED"
    TOKEN_LIFETIME_TOO_LONG = "token_lifetime_too_long", "UNAUTHENTICATED"

    # client certificates
    CERTIFICATE_MALFORMED = "certificate_malformed", "UNAUTHENTICATED"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted", "UNAUTHENTICATED"
    CERTIFICATE_EXPIRED = "certificate_expired", "UNAUTHENTICATED"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid", "UNAUTHENTICATED"
    CERTIFICATE_KEY_WEAK = "certificate_key_weak", "UNAUTHENTICATED"
    CERTIFICATE_REVOKED = "certificate_revoked", "UNAUTHENTICATED"
    CERTIFICATE_REVOCATION_UNKNOWN = "certificate_revocation_unknown", "UNAVAILABLE"
    CERTIFICATE_CONDITION_FAILED = "certificate_condition_failed", "UNAUTHENTICATED"
    CERTIFICATE_SUBJECT_REFUSED = "certificate_subject_refused", "UNAUTHENTICATED"

    # mapping
    CLAIMS_MALFORMED = "claims_malformed", "UNAUTHENTICATED"
    CLAIMS_EXPIRED = "claims_expired", "UNAUTHENTICATED"

    # could not answer
    AUTHENTICATOR_FAILED = "authenticator_failed", "INTERNAL"
    MAPPER_FAILED = "mapper_failed", "INTERNAL"
    KEYS_UNAVAILABLE = "keys_unavailable", "UNAVAILABLE"
    AUDIT_UNAVAILABLE = "audit_unavailable", "UNAVAILABLE"
    EVALUATION_FAILED = "evaluation_failed", "INTERNAL"
