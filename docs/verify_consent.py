#!/usr/bin/env python3
"""Verifies a proof of consent by another hand than Keyward's: docs/consent.md says the same in words.

    docs/verify_consent.py --key KEY --log ORIGIN --at TIME [--rp DOMAIN --origin URL] [FILE]

KEY is what was enrolled then: `ssh-ed25519 AAAA…`, or a passkey's COSE key in base64url. TIME is when the vote was taken
(2026-12-01T11:00:00Z). Prints the decision, or why it is refused (exit code 1). Needs Python 3.9 and `cryptography`.
"""
import argparse, base64, datetime, hashlib, json, pathlib, re, struct, sys
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

CONTEXT = b"keyward-decision-v1"
KINDS = {b"ssh-ed25519": "ed", b"ecdsa-sha2-nistp256": "p256", b"ecdsa-sha2-nistp384": "p384"}
COSE = {"ed": rb"\xa4\x01\x01\x03\x27\x20\x06\x21\x58\x20(.{32})",
        "p256": rb"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20(.{32})\x22\x58\x20(.{32})",
        "p384": rb"\xa5\x01\x02\x03\x38\x22\x20\x02\x21\x58\x30(.{48})\x22\x58\x30(.{48})"}
sha256 = lambda data: hashlib.sha256(data).digest()
pack = lambda *parts: b"".join(struct.pack(">I", len(part)) + part for part in parts)
time = lambda text: datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
spelled = lambda value: json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
says = lambda data: {"flags": data[0], "counter": int.from_bytes(data[1:], "big")} if data else None

def need(holds, why):
    if not holds: raise ValueError(why)
def b64(text):
    data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    return need(base64.urlsafe_b64encode(data).decode().rstrip("=") == text, "another spelling of base64url") or data

def strings(data, count, rest=0):  # so many SSH strings, and then so many bytes
    found = []
    for _ in range(count):
        need((end := 4 + struct.unpack_from(">I", data)[0]) <= len(data), "cut off")
        found, data = found + [data[4:end]], data[end:]
    need(len(data) == rest, "something after the end")
    return found + [data]

def check(curve, point, signature, message):  # Ed25519, or ECDSA with two numbers
    if curve == "ed": return ed25519.Ed25519PublicKey.from_public_bytes(point).verify(signature, message)
    kind, algorithm = (ec.SECP256R1(), hashes.SHA256()) if curve == "p256" else (ec.SECP384R1(), hashes.SHA384())
    key = ec.EllipticCurvePublicKey.from_encoded_point(kind, point)
    key.verify(utils.encode_dss_signature(*signature), message, ec.ECDSA(algorithm))
def once(pairs): return need(len(dict(pairs)) == len(pairs), "a member stands there twice") or dict(pairs)

def passkey(p, text, key, rp, origin):
    need(b64(key) == b64(p["public_key"]), "another key than the enrolled one")
    client, data, signature = b64(p["client_data"]), b64(p["authenticator_data"]), b64(p["signature"])
    said = json.loads(client.decode(), object_pairs_hook=once)
    need(said["type"] == "webauthn.get", "another ceremony")
    need(b64(said["challenge"]) == sha256(CONTEXT + b"\0" + text), "another decision was signed")
    need(origin is not None and said["origin"] == origin, "it comes from another site")
    need(said.get("crossOrigin", False) is False and "topOrigin" not in said, "made in a frame of another site")
    need(rp is not None and data[:32] == sha256(rp.encode()), "for another relying party")
    need(data[32] & 0x45 == 0x05 and (len(data) == 37 or data[32] & 0x80), "nobody was present, or not verified")
    curve, found = next((c, m) for c, form in COSE.items() if (m := re.fullmatch(form, b64(key), re.DOTALL)))
    if curve != "ed":
        der, signature = signature, utils.decode_dss_signature(signature)
        need(utils.encode_dss_signature(*signature) == der, "another spelling of the signature")
    check(curve, found[1] if curve == "ed" else b"\4" + found[1] + found[2], signature, data + sha256(client))
    return says(data[32:37])

def ssh(p, text, key):
    need((blob := b64(p["signature"]))[:10] == b"SSHSIG\0\0\0\1", "no SSH signature of version 1")
    own, namespace, reserved, hash_name, by, _ = strings(blob[10:], 5)
    need(own == base64.b64decode(key.split()[1]), "another key than the enrolled one")
    need(namespace == CONTEXT and reserved == b"", "signed for another namespace")
    hashed = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}[hash_name](text).digest()
    message = b"SSHSIG" + pack(namespace, reserved, hash_name, hashed)
    fido = own[4:7] == b"sk-"
    kind, signature, said = strings(by, 2, 5 if fido else 0)
    curve = KINDS[kind.removeprefix(b"sk-").removesuffix(b"@openssh.com")]
    parts = strings(own, (2 if curve == "ed" else 3) + fido)
    need(kind == parts[0], "of another kind than its key")
    if curve != "ed":
        signature = [int.from_bytes(number, "big", signed=True) for number in strings(signature, 2)[:2]]
    if fido:
        need(said[0] & 0xC1 == 0x01, "nobody was present")
        message = sha256(parts[-2]) + said + sha256(message)
    check(curve, parts[1 if curve == "ed" else 2], signature, message)
    return says(said)

def verify(raw, a):
    p = json.loads(raw.decode(), object_pairs_hook=once)
    need(spelled(p) == raw and p["v"] == 1 and p["decision"]["v"] == 1, "no canonical JSON of version 1")
    need(p["decision"]["origin"] == a.log, "to another guardian")
    need(time(a.at) < time(p["decision"]["expires"]), "the decision was over")
    text = spelled(p["decision"])
    said = passkey(p, text, a.key, a.rp, a.origin) if p["channel"] == "passkey" else ssh(p, text, a.key)
    return {"decision": p["decision"], "channel": p["channel"], "authenticator": said}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--key", "--log", "--at", "--rp", "--origin"):
        parser.add_argument(name, required=name not in ("--rp", "--origin"))
    parser.add_argument("file", nargs="?", default="/dev/stdin")
    try:
        a = parser.parse_args()
        print(json.dumps(verify(pathlib.Path(a.file).read_bytes(), a), indent=2))
    except Exception as why:  # whatever is wrong with it, it is no proof
        sys.exit(f"refused: {str(why) or type(why).__name__}")
