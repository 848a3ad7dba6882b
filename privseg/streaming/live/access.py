"""Who may see the page, and who may change it."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

__all__ = ["Access", "AccessConfig", "RateLimit", "Role"]

Token = Annotated[SecretStr, Field(min_length=16)]
_SESSIONS: Final = 1000
_CLIENTS: Final = 10_000


class Role(StrEnum):
    """What somebody may do; an operator may do all that a viewer may."""

    VIEWER = "viewer"
    OPERATOR = "operator"

    def allows(self, needed: Role) -> bool:
        """Whether this role is enough where ``needed`` is asked for."""
        return self is Role.OPERATOR or needed is Role.VIEWER


class AccessConfig(BaseModel):
    """Tokens by role, or a proxy in front that signs people in (OpenID Connect, say) and passes on who they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    viewers: tuple[Token, ...] = Field((), description="tokens, 16 characters or more, of those who may watch")
    operators: tuple[Token, ...] = Field((), description="tokens of those who may also choose the method")
    proxy_secret: Token | None = Field(
        None, description="what the proxy sends as X-Privseg-Proxy, so that nobody else can say who somebody is"
    )
    proxy_groups_header: str = Field(
        "X-Forwarded-Groups", description="header with the groups that the proxy vouches for"
    )
    operator_group: str = Field("privseg-operators", description="the group of operators; everybody else may watch")
    session_seconds: int = Field(28_800, ge=60, le=604_800, description="how long somebody stays signed in")

    @model_validator(mode="after")
    def _check(self) -> Self:
        every = [token.get_secret_value() for token in (*self.viewers, *self.operators)]
        if len(set(every)) != len(every):
            raise ValueError("a token is given twice")
        return self

    @property
    def open(self) -> bool:
        """Whether nobody is asked who they are."""
        return not (self.viewers or self.operators or self.proxy_secret)


class Access:
    """Tells roles; sessions are kept in memory and end with the process."""

    def __init__(self, config: AccessConfig) -> None:
        self.config = config
        self._sessions: OrderedDict[str, tuple[Role, float]] = OrderedDict()
        self._lock = threading.Lock()

    def role_of_token(self, token: str) -> Role | None:
        """The role of a token; every one is compared, in constant time."""
        found: Role | None = None
        for role, known in ((Role.VIEWER, self.config.viewers), (Role.OPERATOR, self.config.operators)):
            for each in known:
                if hmac.compare_digest(each.get_secret_value().encode(), token.encode()):
                    found = role
        return found

    def role_of(self, headers: Mapping[str, str], session: str | None) -> Role | None:
        """The role of a request, by its token, its session or the proxy's word; None: nobody."""
        if self.config.open:
            return Role.OPERATOR
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.role_of_token(token.strip())
        proxy = self.config.proxy_secret
        if proxy is not None:
            said = headers.get("x-privseg-proxy", "").encode()
            if hmac.compare_digest(proxy.get_secret_value().encode(), said):
                groups = headers.get(self.config.proxy_groups_header.lower(), "").split(",")
                member = self.config.operator_group in [group.strip() for group in groups]
                return Role.OPERATOR if member else Role.VIEWER
        return self._role_of_session(session)

    def sign_in(self, token: str) -> str | None:
        """A session for a token; None where the token is nobody's."""
        role = self.role_of_token(token)
        if role is None:
            return None
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[session] = (role, time.monotonic() + self.config.session_seconds)
            while len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def sign_out(self, session: str | None) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(session or "", None)

    def _role_of_session(self, session: str | None) -> Role | None:
        with self._lock:
            role, until = self._sessions.get(session or "", (None, 0.0))
            if role is not None and time.monotonic() >= until:
                del self._sessions[session or ""]
                return None
            return role


class RateLimit:
    """So many requests a client at once, refilled steadily.

    Args:
        burst: Requests at once.
        a_second: How many come back each second.
    """

    def __init__(self, burst: float, a_second: float) -> None:
        self._burst = burst
        self._rate = a_second
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, client: str, now: float | None = None) -> float:
        """Take one; 0 where it is allowed, else the seconds until it would be."""
        now = time.monotonic() if now is None else now
        with self._lock:
            left, at = self._left.pop(client, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._rate)
            allowed = left >= 1
            self._left[client] = (left - allowed, now)
            while len(self._left) > _CLIENTS:
                self._left.popitem(last=False)
            return 0.0 if allowed else (1 - left) / self._rate
