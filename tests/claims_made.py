"""What tests of claims share: to take one and be sure of it, and what lies in their folder."""

from __future__ import annotations

from tissueseg.store.claims import Claim, Claims

PATIENCE_S = 7200.0


def take(claims: Claims, name: str = "t") -> Claim:
    claim = claims.take(name)
    assert claim is not None
    assert claim.held()
    return claim


def files(claims: Claims) -> list[str]:
    found = (path for path in claims.folder.rglob("*") if not path.is_dir())
    return sorted(path.relative_to(claims.folder).as_posix() for path in found)
