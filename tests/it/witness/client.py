"""A client of C2SP tlog-witness that shares no code with the witness: its own tree, notes and HTTP.

client.py URL WITNESS-VKEY ORIGIN SEED-HEX OTHER-SEED-HEX

Walks through every status of the specification; prints one line for each and exits with 0 if all are as specified."""

import base64, hashlib, http.client, struct, sys, time
from urllib.parse import urlparse

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

url, witness, origin, seed, other_seed = sys.argv[1:]
b64 = lambda b: base64.b64encode(b).decode()
sha = lambda b: hashlib.sha256(b).digest()


def key_id(name, kind, public):
    return sha(name.encode() + b"\n" + bytes([kind]) + public)[:4]


class Signer:
    def __init__(self, name, seed):
        self.name, self.key = name, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
        self.public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def line(self, text):
        return f"— {self.name} {b64(key_id(self.name, 1, self.public) + self.key.sign(text.encode()))}\n"


# RFC 6962 section 2.1, by its recursive definitions.
def split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def root(leaves):
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha(b"\1" + root(leaves[:k]) + root(leaves[k:]))


def subproof(m, leaves, whole):
    if m == len(leaves):
        return [] if whole else [root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return subproof(m, leaves[:k], whole) + [root(leaves[k:])]
    return subproof(m - k, leaves[k:], False) + [root(leaves[:k])]


class Log:
    def __init__(self, salt=0, fork=10**9, size=300):
        self.leaves = [sha(b"\0" + struct.pack(">QB", n, salt if n >= fork else 0)) for n in range(size)]

    def proof(self, old, new):
        return subproof(old, self.leaves[:new], True) if 0 < old < new else []

    def text(self, size):
        return f"{origin}\n{size}\n{b64(root(self.leaves[:size]))}\n"


signer, stranger = Signer(origin, seed), Signer(origin, other_seed)
place = urlparse(url)
connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)


def send(body, method="POST", path="/add-checkpoint"):
    connection.request(method, path, body=body.encode() if isinstance(body, str) else body)
    answer = connection.getresponse()
    return answer.status, answer.getheader("content-type", ""), answer.read().decode()


def request(log, old, new, proof=None, lines=None):
    text = log.text(new)
    proof = log.proof(old, new) if proof is None else proof
    lines = signer.line(text) if lines is None else lines
    return f"old {old}\n" + "".join(b64(h) + "\n" for h in proof) + "\n" + text + "\n" + lines


def expect(what, got, status, kind=None, body=None):
    right = got[0] == status and (kind is None or got[1] == kind) and (body is None or got[2] == body)
    print(("ok   " if right else "WRONG"), status, what, "" if right else got)
    if not right:
        sys.exit(1)


def cosigned(what, got, log, size):
    expect(what, got, 200)
    name, _, material = witness.split("+", 2)
    public = base64.b64decode(material)
    assert public[0] == 4
    assert got[2].endswith("\n") and got[2].startswith("— ")
    for line in got[2][:-1].split("\n"):
        dash, signer_name, signature = line.split(" ")
        raw = base64.b64decode(signature)
        assert dash == "—" and signer_name == name and raw[:4] == key_id(name, 4, public[1:]), line
        at = struct.unpack(">Q", raw[4:12])[0]
        assert abs(at - time.time()) < 600, at
        message = f"cosignature/v1\ntime {at}\n{log.text(size)}"
        Ed25519PublicKey.from_public_bytes(public[1:]).verify(raw[12:], message.encode())


log, fork = Log(), Log(salt=1, fork=100)
size_type = "text/x.tlog.size"

expect("another path", send("", path="/"), 404)
expect("another method", send("", method="GET"), 405)
expect("an empty body", send(""), 400)
expect("no request", send("hello\n"), 400)
expect("no UTF-8", send(b"old 0\n\n\xff\n"), 400)
expect("leading zeroes", send(request(log, 0, 5).replace("old 0", "old 00")), 400)
expect("a proof line that is no hash", send(request(log, 3, 5, proof=[b"x"])), 400)
expect("64 proof lines", send(request(log, 3, 5, proof=[sha(b"")] * 64)), 400)
expect("no signature", send(request(log, 0, 5, lines="")), 400)
expect("an old size above the checkpoint's", send(request(log, 7, 5, proof=[])), 400)
expect("an unknown origin", send(request(log, 0, 5).replace(origin, "unknown.example")), 404)
expect("an unknown key", send(request(log, 0, 5, lines=stranger.line(log.text(5)))), 403)
expect("a signature of another text", send(request(log, 0, 5, lines=signer.line(log.text(6)))), 403)
expect("a proof where none may be", send(request(log, 0, 5, proof=[sha(b"")])), 422)
expect("never cosigned: its size is 0", send(request(log, 3, 5)), 409, size_type, "0\n")
cosigned("the first", send(request(log, 0, 5)), log, 5)
cosigned("the same again", send(request(log, 5, 5)), log, 5)
expect("the first again", send(request(log, 0, 5)), 409, size_type, "5\n")
expect("from too far ahead", send(request(log, 7, 20)), 409, size_type, "5\n")
expect("backwards", send(request(log, 3, 4)), 409, size_type, "5\n")
cosigned("the next", send(request(log, 5, 20)), log, 20)
both = request(log, 20, 64, lines=stranger.line(log.text(64)) + signer.line(log.text(64)))
cosigned("with a stranger's signature too", send(both), log, 64)
expect("a proof too short", send(request(log, 64, 100, proof=log.proof(64, 100)[:-1])), 422)
expect("a proof too long", send(request(log, 64, 100, proof=log.proof(64, 100) + [sha(b"")])), 422)
expect("another's proof", send(request(log, 64, 100, proof=log.proof(63, 100))), 422)
expect("a proof for the same size", send(request(log, 64, 64, proof=[sha(b"")])), 422)
for n in range(64, 150):
    cosigned(f"{n} to {n + 1}", send(request(log, n, n + 1)), log, n + 1)
expect("another root for the same size", send(request(fork, 150, 150)), 409, size_type, "150\n")
expect("a fork that grows", send(request(fork, 150, 160)), 422)
cosigned("the true log goes on", send(request(log, 150, 300)), log, 300)
expect("a body that is too long", send("old 0\n" + "A" * 200_000), 413)
print("all as specified")
