"""Where privseg works: where people are owed protection, or where methods are studied."""

from __future__ import annotations

from enum import StrEnum

from privseg.errors import UsageError
from privseg.privacy.filters.base import Method

__all__ = ["Profile"]


class Profile(StrEnum):
    """What methods may be used. None lets people leave uncovered."""

    #: obfuscation is refused, unless it is allowed in so many words
    PRODUCTION = "production"
    #: every method may be used
    LABORATORY = "laboratory"

    def allows_obfuscation(self, allowed: bool) -> bool:
        """Whether a method that only obfuscates may be used; ``allowed``: somebody said so in so many words."""
        return allowed or self is Profile.LABORATORY

    def refuse_unless_allowed(self, method: Method, allowed: bool) -> None:
        """Raise UsageError for a method that only obfuscates where that is not enough."""
        if method.privacy_class == "obfuscation" and not self.allows_obfuscation(allowed):
            fault = f"only obfuscates, and the profile is {self}: an attacker may recognise people in its output"
            raise UsageError(f"method {method.name}", fault, "choose an irreversible one, or allow obfuscation")
