#!/usr/bin/env python3
"""Verifies a lease of Keyward, or a permit, by another hand than Keyward's: docs/lease.md says the same in words.

    docs/lease.py --keys FILE --audience NAME --path NAME [--epoch HIGHEST] [--permit SHA256] [FILE]

Reads the text from FILE or standard input and prints what it says, or why it is refused (exit code 1). --keys is what
`keyward gate keys -o name` printed. Needs Python 3.9 and the package `cryptography`.
"""
import argparse, base64, hashlib, json, pathlib, sys, time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LIFE, EARLY = 15, 2  # seconds: no lease lives longer, and none begins earlier than this before it was made


def b64(text, alphabet=b"-_", padding=""):
    data = base64.b64decode(text + "=" * (-len(text) % 4), alphabet, validate=True)
    again = base64.b64encode(data, alphabet).decode()
    need(text == (again if padding else again.rstrip("=")), "another spelling of base64")
    return data


def need(holds, why):
    if not holds:
        raise ValueError(why)


def opened(text, context, keys):
    """The claims, once a pinned key (NAME+ID+BASE64) stands behind them."""
    need(len(text) <= 4096, "too long")
    kind, key_id, payload, signature = text.removesuffix("\n").split(".")
    need(kind == context, f"not a {context}")
    payload, signature = b64(payload), b64(signature)
    for name, hashed, rest in (key.split("+", 2) for key in keys):
        public = b64(rest, b"+/", "=")
        own = hashlib.sha256(name.encode() + b"\n" + public).hexdigest()[:8]
        need(own == hashed and public[0] == 1 and len(public) == 33 and name.endswith("/lease"), "no lease key is pinned")
        if own == key_id:
            try:
                Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature, context.encode() + b"\n" + payload)
            except InvalidSignature:
                continue
            claims = json.loads(payload)
            spelled = json.dumps(claims, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            need(spelled == payload, "not canonical JSON")
            need(claims["version"] == 1 and claims["issuer"] == name.removesuffix("/lease"), "another version or issuer")
            return claims
    raise ValueError("forged, or signed by a key that is not pinned")


def verify(text, keys, audience, path, wall, boot_ms, boot_id, epoch=0, sequence=0, permit=None):
    """The claims of a lease (of a permit for this digest, if one is given) that holds now on this machine."""
    c = opened(text, "keyward-permit-v1" if permit else "keyward-lease-v1", keys)
    need((c["audience"], c["path"], c["environment"]) == (audience, path, "production"), "for somebody or something else")
    need(permit is None or c["decision"] == permit, "it permits another decision")
    need(c["epoch"] >= epoch, "of an earlier run of the guardian")
    need(permit or c["epoch"] > epoch or c["sequence"] >= sequence, "an older one than the newest")
    need(c["boot_id"] == boot_id != "", "of another boot or machine")
    lives = c["boot_expires_ms"] - c["boot_now_ms"] <= LIFE * 1000 and c["expires"] - c["not_before"] <= LIFE + EARLY
    need(lives, "it says that it lives longer than any")
    need(c["not_before"] <= wall < c["expires"], "over, or not begun, by the wall clock")
    need(c["boot_now_ms"] <= boot_ms < c["boot_expires_ms"], "over by the clock that does not step")
    return c


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--keys", "--audience", "--path"):
        parser.add_argument(name, required=True)
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--permit")
    parser.add_argument("file", nargs="?", default="/dev/stdin")
    a = parser.parse_args()
    boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    boot_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    try:
        keys = [line for line in pathlib.Path(a.keys).read_text().split("\n") if line and not line.startswith("#")]
        text = pathlib.Path(a.file).read_text()
        said = verify(text, keys, a.audience, a.path, int(time.time()), boot_ms, boot_id, a.epoch, 0, a.permit)
    except (ValueError, KeyError, TypeError, IndexError, OSError) as why:
        sys.exit(f"refused: {why}")
    print(json.dumps(said, indent=2))
