#!/usr/bin/env python3
"""Verifies a Keyward audit log without Keyward: a second opinion, written from the specifications.

    docs/verify.py [--key VKEY]... [--witness VKEY]... [--against CHECKPOINT]... [--shard DIR]... [--lock FILE] PATH...

PATH is a state directory or its keyward.db, a directory of static files (C2SP tlog-tiles), a shard of frozen entries, or a
proof file. Where the oldest entries of a log are frozen, --shard names their shards, or directories that hold them. Nothing is
written. Without --key, the key that lies beside a database is taken: whoever can change the log may have that one too.

Needs Python 3.9 and the package `cryptography` (Debian: python3-cryptography).

Exit codes, the first that applies to any PATH:
    2 tampered    3 rolled back    4 incomplete    5 unverifiable    0 ok

Specifications: RFC 9162 section 2.1 (the tree), RFC 8785 (canonical JSON), C2SP signed-note, tlog-checkpoint,
tlog-cosignature and tlog-tiles, RFC 8032 (Ed25519); docs/decisions/0007-audit-log.md (the tables) and 0012-retention.md
(shards).
"""

import argparse
import base64
import datetime
import hashlib
import json
import os
import re
import sqlite3
import struct
import sys
import urllib.parse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

OK, TAMPERED, ROLLED_BACK, INCOMPLETE, UNVERIFIABLE = 0, 2, 3, 4, 5
NAMES = {0: "ok", 2: "tampered", 3: "rolled back", 4: "incomplete", 5: "unverifiable"}
ULID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LONGEST_ENTRY = 60 * 1024


class Bad(Exception):
    """Something that is not as it must be; the first argument is the exit code."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def tampered(text):
    return Bad(TAMPERED, text)


# --- signed notes -----------------------------------------------------------------------------------------------------


def b64(text):
    """Base64 in its one spelling."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("another spelling of base64")
    return data


class Key:
    """NAME+ID+KEY of C2SP signed-note: type 1 is a log's, type 4 a witness's."""

    def __init__(self, name, kind, public, sizes=(0, None)):
        self.name, self.kind, self.public, self.sizes = name, kind, public, sizes
        self.id = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]

    @classmethod
    def parse(cls, text):
        sizes = (0, None)
        ranged = re.fullmatch(r"(.*)@(\d+)-(\d*)", text)
        if ranged:
            text, sizes = ranged[1], (int(ranged[2]), int(ranged[3]) if ranged[3] else None)
        name, key_id, rest = text.split("+", 2)
        data = b64(rest)
        key = cls(name, data[0], data[1:], sizes)
        if len(data) != 33 or key.kind not in (1, 4) or key.id.hex() != key_id:
            raise ValueError("is no key of a log or a witness")
        return key

    @classmethod
    def of_private(cls, text):
        name, _, rest = text.strip().removeprefix("PRIVATE+KEY+").split("+", 2)
        data = b64(rest)
        private = Ed25519PrivateKey.from_private_bytes(data[1:])
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(name, data[0], public)

    def verify(self, text, signature):
        """The time that a witness says, None for a log; raises InvalidSignature."""
        public = Ed25519PublicKey.from_public_bytes(self.public)
        if self.kind == 1:
            public.verify(signature, text.encode())
            return None
        if len(signature) != 72:
            raise InvalidSignature
        at = struct.unpack(">Q", signature[:8])[0]
        public.verify(signature[8:], f"cosignature/v1\ntime {at}\n{text}".encode())
        return at


class Checkpoint:
    def __init__(self, what, note):
        self.what = what
        if any(ord(c) < 32 and c != "\n" or ord(c) == 127 for c in note):
            raise tampered(f"{what} has control characters")
        text, found, signatures = note.rpartition("\n\n")
        lines = text.split("\n")
        try:
            self.origin, size, root = lines[:3]
            self.size, self.root = int(size), b64(root)
            whole = found and signatures.endswith("\n") and all(lines) and str(self.size) == size and self.size >= 0
            if not whole or len(self.root) != 32:
                raise ValueError
        except ValueError:
            raise tampered(f"{what} is no checkpoint") from None
        self.text = text + "\n"
        self.signatures = []
        for line in signatures[:-1].split("\n"):
            parts = line.split(" ")
            try:
                data = b64(parts[2])
                if parts[0] != "\u2014" or len(parts) != 3 or not parts[1] or "+" in parts[1] or len(data) < 5:
                    raise ValueError
            except (ValueError, IndexError):
                raise tampered(f"{what} has a line that is no signature") from None
            self.signatures.append((parts[1], data[:4], data[4:]))

    def signed_by(self, key):
        """None if that key has not signed, else a tuple with the time; raises Bad if the signature is wrong."""
        said = None
        for name, key_id, signature in self.signatures:
            if (name, key_id) == (key.name, key.id):
                try:
                    said = said or (key.verify(self.text, signature),)
                except InvalidSignature:
                    raise tampered(f"{self.what}: the signature of {key.name} is wrong") from None
                if len(signature) != (64 if key.kind == 1 else 72):
                    raise tampered(f"{self.what}: a signature has another length")
        return said

    def judge(self, keys, witnesses, gaps=False):
        """Raises Bad unless a key of the log that may sign this size has signed; gives the witnesses that have. With gaps
        the key may have been rotated in frozen entries that are not read."""
        good = [key for key in keys if self.signed_by(key)]
        within = [k for k in good if k.sizes[0] <= self.size and (k.sizes[1] is None or self.size <= k.sizes[1])]
        if keys and not within:
            if gaps and not good and any(key.name == self.origin for key in keys):
                raise Bad(UNVERIFIABLE, f"{self.what} is signed by no key that is known: give shards, or the newer key")
            if good or any(key.name == self.origin for key in keys):
                raise tampered(f"{self.what} is not signed by a key that may sign it")
            raise Bad(UNVERIFIABLE, f"{self.what} is of {self.origin}, and no key of it was given")
        if any(key.name != self.origin for key in within):
            raise tampered(f"{self.what} is signed by the key of another log")
        return [witness.name for witness in witnesses if self.signed_by(witness)]


# --- the tree ---------------------------------------------------------------------------------------------------------


def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The complete subtrees at the right edge, as (level, hash)."""

    def __init__(self, size=0, hashes=()):
        levels = [level for level in range(62, -1, -1) if size >> level & 1]
        if len(levels) != len(hashes):
            raise tampered(f"a tree of {size} entries is not made of {len(hashes)} hashes")
        self.size, self.peaks = size, list(zip(levels, hashes))

    def push(self, leaf):
        """Gives every subtree that is complete now, as (level, place, hash)."""
        level, complete = 0, []
        while self.peaks and self.peaks[-1][0] == level:
            leaf = node_hash(self.peaks.pop()[1], leaf)
            level += 1
            complete.append((level, self.size >> level, leaf))
        self.peaks.append((level, leaf))
        self.size += 1
        return complete

    def root(self):
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        root = self.peaks[-1][1]
        for _, left in reversed(self.peaks[:-1]):
            root = node_hash(left, root)
        return root


def same_beginning(old, old_root, new, new_root, proof):
    """RFC 9162 section 2.1.4.2: whether the tree of `old` leaves is the beginning of that of `new`."""
    if old > new or old == 0:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for beside in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(beside, fr), node_hash(beside, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, beside)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root


def root_from_proof(index, size, leaf, proof):
    """RFC 9162 section 2.1.3.2."""
    fn, sn, root = index, size - 1, leaf
    for beside in proof:
        if sn == 0:
            raise tampered("the proof is too long")
        if fn & 1 or fn == sn:
            root = node_hash(beside, root)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            root = node_hash(root, beside)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise tampered("the proof is too short")
    return root


# --- entries ----------------------------------------------------------------------------------------------------------


def canonical(data):
    """The value of canonical JSON (RFC 8785), without fractions."""

    def no(text):
        raise ValueError(f"{text} must not be")

    def pairs(found):
        made = dict(found)
        if len(made) != len(found):
            raise ValueError("a key stands twice")
        return made

    def ordered(value):
        if isinstance(value, dict):
            return {k: ordered(value[k]) for k in sorted(value, key=lambda k: k.encode("utf-16-be", "surrogatepass"))}
        if isinstance(value, list):
            return [ordered(item) for item in value]
        if isinstance(value, int) and abs(value) >= 1 << 53:
            raise ValueError("a number is too large")
        return value

    value = json.loads(data.decode("utf-8"), parse_float=no, parse_constant=no, object_pairs_hook=pairs)
    if json.dumps(ordered(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8") != data:
        raise ValueError("it is spelled another way")
    return value


def unix(text):
    at = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    if at.strftime("%Y-%m-%dT%H:%M:%SZ") != text:
        raise ValueError("is no time")
    return int(at.timestamp())


def ulid(text):
    if not re.fullmatch(f"[0-7][{ULID}]{{25}}", text):
        raise ValueError("is no ULID")
    number = 0
    for c in text:
        number = number << 5 | ULID.index(c)
    return number.to_bytes(16, "big")


def number(text):
    if not isinstance(text, str) or not re.fullmatch("0|[1-9][0-9]*", text):
        raise ValueError("is no number")
    return int(text)


def sha256_hex(text):
    if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("is no SHA-256")
    return bytes.fromhex(text)


class Froze:
    """What the entry of a freeze says."""

    def __init__(self, sequence, first, until, root, manifest, beginning):
        self.sequence, self.first, self.until = sequence, first, until
        self.root, self.manifest, self.beginning = root, manifest, beginning


class Entry:
    def __init__(self, sequence, body):
        try:
            if len(body) > LONGEST_ENTRY:
                raise ValueError("is too long")
            value = canonical(body)
            data, self.id, self.at = value["data"], ulid(value["id"]), unix(value["time"])
            self.target = f"{data['target']['kind']}/{data['target']['id']}"
            self.phase, self.action = data["phase"], data["action"]
            self.froze = None
            if self.action == "audit.freeze" and isinstance(data.get("facts"), dict):
                facts = data["facts"]
                span = number(facts["from"]), number(facts["until"])
                self.froze = Froze(sequence, *span, *(sha256_hex(facts[k]) for k in ("root", "manifest", "beginning")))
            self.intent = ulid(data["intent_ref"]) if "intent_ref" in data else None
            previous = data.get("previous_of_target")
            self.previous = None if previous is None else sha256_hex(previous)
            self.evidence = [(sha256_hex(e["sha256"]), number(e["size"])) for e in data.get("evidence", [])]
            self.private = [sha256_hex(text) for text in data.get("private", {}).values()]
            well = value["specversion"] == "1.0" and value["type"] == "dev.keyward." + self.action
            if not well or self.phase not in ("intent", "outcome", "event"):
                raise ValueError("is no entry of Keyward")
            said = number(value["sequence"])
            self.words = words(data, self.at)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise tampered(f"entry {sequence} cannot be read: {error}") from None
        if said != sequence:
            raise tampered(f"entry {sequence} says that it is entry {said}")


def words(data, at):
    """KIND:VALUE, as decision 0007 has it; each is cut to 256 bytes on a character's boundary."""
    target, facts, actor = data["target"], data.get("facts"), data["actor"]
    found = [("target", f"{target['kind']}/{target['id']}")]
    if target["kind"] in ("credential", "path", "issuer"):
        found.append((target["kind"], target["id"]))
    if isinstance(facts, dict) and isinstance(facts.get("issuer"), str):
        found.append(("issuer", facts["issuer"]))
    found += [("action", data["action"]), ("code", data["code"]), ("phase", data["phase"]), ("actor", actor["kind"])]
    found += [("actor", actor["subject"])] if "subject" in actor else []
    found += [("outcome", data["outcome"])] if "outcome" in data else []
    found += [("tier", data["risk"]["tier"])] if "risk" in data else []
    found += [("correlation", data["correlation_id"])] if "correlation_id" in data else []
    found.append(("day", at // 86400))
    return {f"{kind}:{value}".encode()[:256].decode("utf-8", "ignore") for kind, value in found}


# --- a log ------------------------------------------------------------------------------------------------------------


class Log:
    """One pass; the first thing that is wrong is raised."""

    def __init__(self, args, keys, gaps=False):
        self.args, self.keys, self.witnesses = args, keys, args.witness
        self.tree, self.targets, self.open = Tree(), {}, {}
        self.anchors, self.claimed, self.origin, self.seen = {}, None, None, set()
        self.learned, self.signed = [], {}
        self.last, self.by_id = None, set()
        self.began, self.froze, self.shards, self.notes, self.gaps = None, [], [], [], gaps
        for path in args.against:
            with open(path, encoding="utf-8") as file:
                self.anchor(f"the checkpoint in {path}", file.read())

    def anchor(self, what, note):
        checkpoint = Checkpoint(what, note)
        checkpoint.judge(self.keys, self.witnesses, self.gaps)
        self.anchors.setdefault(checkpoint.size, []).append(checkpoint)

    def begin(self, beginning):
        """Goes on behind frozen entries with what they leave behind."""
        self.tree, self.targets, self.open, self.by_id = beginning.tree(), dict(beginning.links), dict(beginning.open), set()
        self.began = beginning if beginning.size else None
        for size in [size for size in self.anchors if size < beginning.size]:
            anchor = self.anchors.pop(size)[0]
            raise Bad(UNVERIFIABLE, f"{anchor.what} is of size {size}, before which entries are frozen: give their shards")

    def carry(self):
        """What a pass that ends here leaves behind."""
        return Beginning(self.tree.size, [hash for _, hash in self.tree.peaks], self.targets, self.open)

    def compare(self):
        for anchor in self.anchors.pop(self.tree.size, []):
            if anchor.root != self.tree.root():
                raise tampered(f"{anchor.what} has another root for the first {anchor.size} entries")

    def entry(self, sequence, body, leaf, id=None, at=None):
        """Checks an entry and gives it with the subtrees that it completes."""
        self.compare()
        if sequence != self.tree.size:
            raise tampered(f"entry {sequence} stands where {self.tree.size} must stand")
        if leaf is not None and leaf != leaf_hash(body):
            raise tampered(f"the bytes of entry {sequence} are not those that were hashed")
        entry = Entry(sequence, body)
        if id not in (None, entry.id) or at not in (None, entry.at):
            raise tampered(f"the columns of entry {sequence} are not what it says")
        if self.targets.get(entry.target) != entry.previous:
            raise tampered(f"entry {sequence} is not linked to the entry before it about {entry.target}")
        self.targets[entry.target] = leaf_hash(body)
        if entry.phase == "intent":
            if entry.id in self.open:
                raise tampered(f"entry {sequence} has the id of another intent")
            self.open[entry.id] = (sequence, entry.target)
        elif entry.phase == "outcome" and self.open.pop(entry.intent, (0, None))[1] != entry.target:
            raise tampered(f"entry {sequence} concludes no open intent about {entry.target}")
        self.last = entry
        if entry.froze:
            self.froze.append(entry.froze)
        self.by_id.add((entry.id, sequence))
        return entry, self.tree.push(leaf_hash(body))

    def checkpoint(self, what, note, size=None, at=None):
        checkpoint = Checkpoint(what, note)
        self.seen.update(checkpoint.judge(self.keys, self.witnesses, self.gaps))
        if size not in (None, checkpoint.size) or self.origin not in (None, checkpoint.origin):
            raise tampered(f"{what} is not what stands beside it")
        if checkpoint.size == self.tree.size:
            if checkpoint.root != self.tree.root():
                raise tampered(f"{what} has another root than the {self.tree.size} entries")
            if at is not None and self.last and at != self.last.at:
                raise tampered(f"{what} has another time than its newest entry")
            self.signed.update({id(key): checkpoint.size for key in self.keys if checkpoint.signed_by(key)})
        elif checkpoint.size < self.tree.size:
            raise tampered(f"{what} stands among larger ones")
        self.origin, self.claimed = checkpoint.origin, max(self.claimed or 0, checkpoint.size)

    def finish_shards(self, early):
        """What was frozen is what the entries of the freezes say; a pass that ends with a shard cannot know all of them."""
        said = {froze.until: froze for froze in self.froze}
        for shard in self.shards:
            froze = said.get(shard.until)
            if froze is None and not early:
                raise tampered(f"no entry says that the shard {shard.path} was frozen")
            if froze and (froze.manifest, froze.root, froze.first) != (shard.digest, shard.root, shard.first):
                raise tampered(f"entry {froze.sequence} names another shard than {shard.path}")
        if self.began and not early:
            froze = said.get(self.began.size)
            if froze is None:
                raise tampered(f"no entry says that the entries before {self.began.size} were frozen")
            if (froze.root, froze.beginning) != (self.began.tree().root(), self.began.digest()):
                raise tampered(f"what is kept of the frozen entries is not what entry {froze.sequence} says")
        if self.began:
            self.notes.append(f"entries before {self.began.size} are frozen and were not read")

    def whole(self):
        return self.claimed is None or self.claimed <= self.tree.size

    def finish(self):
        self.compare()
        if self.claimed is None:
            raise Bad(UNVERIFIABLE, "there is no checkpoint")
        if self.claimed < self.tree.size:
            raise tampered(f"entries from {self.claimed} on are covered by no checkpoint")
        if self.anchors and max(self.anchors) > self.claimed:
            raise Bad(ROLLED_BACK, f"there were {max(self.anchors)} entries, and there are {self.tree.size}")
        if self.claimed > self.tree.size:
            raise Bad(INCOMPLETE, f"{self.claimed} entries were signed, and there are {self.tree.size}")
        if not self.keys:
            raise Bad(UNVERIFIABLE, "no key of the log was given")
        for key, known, sequence in self.learned:
            if id(key) in self.signed and self.signed.get(id(known), 0) <= sequence:
                raise Bad(UNVERIFIABLE, f"the key {key.name}+{key.id.hex()} is not proved by the one before or after it")
        for witness in self.witnesses:
            if witness.name not in self.seen:
                raise Bad(UNVERIFIABLE, f"no checkpoint was seen by the witness {witness.name}")
        self.finish_shards(False)
        return "; ".join([f"{self.tree.size} entries of {self.origin}, root {self.tree.root().hex()}"] + self.notes)


# --- shards -----------------------------------------------------------------------------------------------------------


def ulid_text(data):
    value = int.from_bytes(data, "big")
    return "".join(ULID[value >> 5 * place & 31] for place in range(25, -1, -1))


class Beginning:
    """What the entries before one leave behind for those after them."""

    def __init__(self, size=0, hashes=(), links=None, open=None):
        self.size, self.hashes, self.links, self.open = size, list(hashes), links or {}, open or {}

    @classmethod
    def parse(cls, data):
        try:
            value = json.loads(data)
            links = {target: sha256_hex(leaf) for target, leaf in value["links"].items()}
            intents = value["intents"].items()
            open = {ulid(id): (number(intent["sequence"]), intent["target"]) for id, intent in intents}
            made = cls(number(value["size"]), [sha256_hex(hash) for hash in value["tree"]], links, open)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise tampered(f"a beginning cannot be read: {error}") from None
        if made.bytes() != data:
            raise tampered("a beginning is spelled another way")
        return made

    def tree(self):
        return Tree(self.size, self.hashes)

    def bytes(self):
        value = {
            "format": "keyward-audit-beginning/v1",
            "intents": {ulid_text(id): {"sequence": str(at), "target": about} for id, (at, about) in self.open.items()},
            "links": {target: leaf.hex() for target, leaf in self.links.items()},
            "size": str(self.size),
            "tree": [hash.hex() for hash in self.hashes],
        }
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    def digest(self):
        return hashlib.sha256(self.bytes()).digest()


class Shard:
    """A run of frozen entries: static files with a manifest."""

    def __init__(self, path):
        self.path = path
        with open(os.path.join(path, "shard.json"), "rb") as file:
            data = file.read()
        self.digest = hashlib.sha256(data).digest()
        try:
            value = json.loads(data)
            self.origin, self.first, self.until = value["origin"], number(value["from"]), number(value["until"])
            self.root, before = sha256_hex(value["root"]), value.get("manifest_before")
            self.before = None if before is None else sha256_hex(before)
            self.consistency = [sha256_hex(hash) for hash in value["consistency"]]
            self.files = {name: (number(sum["bytes"]), sha256_hex(sum["sha256"])) for name, sum in value["files"].items()}
            well = value["format"] == "keyward-audit-shard/v1" and self.first < self.until
            if not well or self.first % 256 or self.until % 256:
                raise ValueError("it is none")
            if any(name.startswith("/") or ".." in name.split("/") for name in self.files):
                raise ValueError("it names a file outside")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise tampered(f"the manifest of {path} cannot be read: {error}") from None

    def read(self, name):
        if name not in self.files:
            raise tampered(f"{name} is not in the manifest of {self.path}")
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                data = file.read(self.files[name][0] + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise Bad(INCOMPLETE, f"{name} of {self.path} is missing") from None
        if (len(data), hashlib.sha256(data).digest()) != self.files[name]:
            raise tampered(f"{name} of {self.path} is not what was frozen")
        return data

    def beginning(self):
        return Beginning.parse(self.read("beginning.json")) if self.first else Beginning()

    def bodies(self):
        for index in range(self.first // 256, self.until // 256):
            bundle = self.read(tile_path("entries", index, 256))
            for at in range(256):
                length = int.from_bytes(bundle[:2], "big")
                body, bundle = bundle[2 : 2 + length], bundle[2 + length :]
                if len(body) != length or length == 0:
                    raise tampered(f"a bundle of {self.path} ends too early")
                yield 256 * index + at, body
            if bundle:
                raise tampered(f"a bundle of {self.path} has too many entries")

    def verify(self, log):
        log.shards.append(self)
        for name in self.files:
            self.read(name)
        beginning = self.beginning()
        if beginning.size != self.first or self.first and beginning.bytes() != log.carry().bytes():
            raise tampered(f"beginning.json of {self.path} is not what the entries before it leave behind")
        due = []
        for line in self.read("checkpoints.jsonl").splitlines():
            try:
                value = json.loads(line)
                due.append((number(value["size"]), value["note"] + "", int(value["at"])))
            except (ValueError, KeyError, TypeError) as error:
                raise tampered(f"checkpoints.jsonl of {self.path} cannot be read: {error}") from None
        hashes = {}
        for sequence, body in self.bodies():
            if sequence % 256 == 0:
                tile = self.read(tile_path(0, sequence // 256, 256))
            leaf = tile[32 * (sequence % 256) : 32 * (sequence % 256) + 32]
            entry, complete = log.entry(sequence, body, leaf)
            hashes.update({(level // 8, place): found for level, place, found in complete if level % 8 == 0})
            for sha256, size in entry.evidence:
                self.evidence(sha256, size)
            while due and due[0][0] <= log.tree.size:
                size, note, at = due.pop(0)
                log.checkpoint(f"the checkpoint of size {size} of {self.path}", note, size, at)
        if due or log.tree.root() != self.root:
            raise tampered(f"the entries of {self.path} do not have the root of its manifest, or a checkpoint is beyond them")
        for level in range(1, 8):
            count, before = self.until >> 8 * level, self.first >> 8 * level
            for index in range(before // 256, (count + 255) // 256):
                width = min(256, count - 256 * index)
                tile = self.read(tile_path(level, index, width))
                for place in range(max(before, 256 * index), 256 * index + width):
                    at = 32 * (place - 256 * index)
                    if tile[at : at + 32] != hashes[level, place] or len(tile) != 32 * width:
                        raise tampered(f"{tile_path(level, index, width)} of {self.path} is not that of the entries")
        self.covered(log)

    def evidence(self, sha256, size):
        try:
            with open(os.path.join(self.path, "evidence", sha256.hex()), "rb") as file:
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return
        if len(data) != size or hashlib.sha256(data).digest() != sha256:
            raise tampered(f"the evidence {sha256.hex()} of {self.path} has bytes of another hash or size")

    def covered(self, log):
        checkpoint = Checkpoint(f"the checkpoint of {self.path}", self.read("checkpoint").decode("utf-8", "replace"))
        log.seen.update(checkpoint.judge(log.keys, log.witnesses, log.gaps))
        if checkpoint.origin != self.origin or log.origin not in (None, self.origin):
            raise tampered(f"{checkpoint.what} is of another log")
        if not same_beginning(self.until, log.tree.root(), checkpoint.size, checkpoint.root, self.consistency):
            raise tampered(f"the root over the first {self.until} entries is not under {checkpoint.what}")
        log.origin = checkpoint.origin
        log.signed.update({id(key): max(self.until, log.signed.get(id(key), 0)) for key in log.keys if checkpoint.signed_by(key)})


def shard_chain(paths):
    """The shards in these directories in order."""
    found = {}
    for path in paths:
        names = [path] if os.path.exists(os.path.join(path, "shard.json")) else sorted(
            os.path.join(path, name) for name in os.listdir(path) if os.path.exists(os.path.join(path, name, "shard.json"))
        )
        if not names:
            raise Bad(INCOMPLETE, f"{path} holds no shard")
        for name in names:
            shard = Shard(name)
            if found.setdefault(shard.first, shard).digest != shard.digest:
                raise tampered(f"{name} and {found[shard.first].path} both begin with entry {shard.first}")
    chain = [found[first] for first in sorted(found)]
    for one, next in zip(chain, chain[1:]):
        if next.first > one.until:
            raise Bad(INCOMPLETE, f"the shard of the entries {one.until} to {next.first - 1} is missing")
        if next.first < one.until or next.before != one.digest:
            raise tampered(f"{next.path} does not follow {one.path}")
    return chain


def read_shards(chain, log):
    if chain:
        log.begin(chain[0].beginning())
    for shard in chain:
        shard.verify(log)


def verify_shards(path, args):
    chain = shard_chain(args.shard + [path])
    keys = list(args.key)
    learned = learn((row for shard in chain for row in shard.bodies()), keys)
    log = Log(args, keys, chain[0].first > 0)
    log.learned = learned
    read_shards(chain, log)
    if log.anchors and max(log.anchors) > log.tree.size:
        raise Bad(UNVERIFIABLE, "what is known from outside is of more entries than the shards have")
    if not keys:
        raise Bad(UNVERIFIABLE, "no key of the log was given")
    log.compare()
    log.finish_shards(True)
    for witness in log.witnesses:
        if witness.name not in log.seen:
            raise Bad(UNVERIFIABLE, f"no checkpoint was seen by the witness {witness.name}")
    first = log.began.size if log.began else 0
    return f"entries {first} to {log.tree.size - 1} of {log.origin}, root {log.tree.root().hex()}"


def first_entry(database):
    """Where the log begins: what is before is frozen."""
    if not database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'shard'").fetchone()[0]:
        return 0
    return database.execute("SELECT ifnull(max(until), 0) FROM shard").fetchone()[0]


def kept_beginning(database, first):
    """What the database keeps of the frozen entries: the tree over them is made of the hashes of level 8 alone."""
    if not first:
        return Beginning()
    stored = {(level, place): hash for level, place, hash in database.execute("SELECT level, place, hash FROM subtree")}
    tree = Tree()
    for place in range(first // 256):
        if (8, place) not in stored:
            raise tampered(f"the stored hash of subtree {place} of level 8 is missing")
        for level, at, found in tree.push(stored[8, place]):
            if level % 8 == 0 and stored.get((level + 8, at)) != found:
                raise tampered(f"the stored hash of subtree {at} of level {level + 8} is not that of those below it")
    links = dict(database.execute("SELECT target, leaf FROM link"))
    open = {id: (at, about) for id, at, about in database.execute("SELECT id, sequence, target FROM pending")}
    return Beginning(first, [hash for _, hash in tree.peaks], links, open)


# --- databases --------------------------------------------------------------------------------------------------------


def connect(path):
    quoted = urllib.parse.quote(os.path.abspath(path))
    try:
        database = sqlite3.connect(f"file:{quoted}?mode=ro", uri=True)
        database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return database
    except sqlite3.OperationalError as error:
        wal = path + "-wal"
        if os.access(os.path.dirname(os.path.abspath(path)), os.W_OK) or os.path.exists(wal) and os.path.getsize(wal):
            raise Bad(UNVERIFIABLE, f"{path} cannot be read: {error}") from None
        return sqlite3.connect(f"file:{quoted}?mode=ro&immutable=1", uri=True)


def lock_note(path):
    """The newest whole slot of two of 4 KiB."""
    newest = None
    with open(path, "rb") as file:
        for _ in range(2):
            text = file.read(4096).decode("utf-8", "replace")
            slot = re.fullmatch(r"keyward audit lock 1\nturn (\d+)\nsha256 ([0-9a-f]{64})\n\n(.*?\n)\n*", text, re.S)
            if slot and hashlib.sha256(f"turn {slot[1]}\n{slot[3]}".encode()).hexdigest() == slot[2]:
                newest = max(newest or (-1, ""), (int(slot[1]), slot[3]))
    if newest is None:
        raise tampered(f"the audit lock {path} has no whole slot")
    return newest[1]


def learn(rows, keys):
    """The keys before and after those that count, from the entries of rotations: gives what must be proved for that."""
    learned = []
    rotations = []
    for sequence, body in rows:
        try:
            if b"KW6440" not in body:
                continue
            data = json.loads(body)["data"]
            if data["code"] == "KW6440":
                facts = data["facts"]
                old, new = Key.parse(facts["old_key"]), Key.parse(facts["new_key"])
                new.sizes = (number(facts["from_size"]), None)
                rotations.append((sequence, old, new))
        except (ValueError, KeyError, TypeError):
            pass
    for _ in rotations:
        for sequence, old, new in rotations:
            known = {(key.name, key.public): key for key in keys}
            old_known, new_known = known.get((old.name, old.public)), known.get((new.name, new.public))
            if new_known and not old_known:
                keys.append(old)
                learned.append((old, new_known, sequence))
            elif old_known and not new_known:
                keys.append(new)
                learned.append((new, old_known, sequence))
    return learned


def verify_database(path, args):
    beside = os.path.dirname(os.path.abspath(path))
    keys, private = list(args.key), os.path.join(beside, "log.key")
    if not keys and os.path.exists(private):
        with open(private, encoding="utf-8") as file:
            keys = [Key.of_private(file.read())]
    database, chain = connect(path), shard_chain(args.shard)
    try:
        sql = "SELECT sequence, body FROM entry WHERE instr(body, CAST('KW6440' AS BLOB)) ORDER BY sequence"
        rows = database.execute(sql).fetchall() + [row for shard in chain for row in shard.bodies()]
        learned = learn(rows, keys)
    except (sqlite3.DatabaseError, OverflowError) as error:
        raise tampered(f"{path} is damaged: {error}") from None
    log = Log(args, keys, (chain[0].first if chain else first_entry(database)) > 0)
    log.learned = learned
    lock = args.lock or os.path.join(beside, "audit.lock")
    if args.lock or os.path.exists(lock):
        log.anchor("the audit lock", lock_note(lock))
    try:
        read_shards(chain, log)
        return read_database(database, log)
    except (sqlite3.DatabaseError, OverflowError) as error:
        raise tampered(f"{path} is damaged: {error}") from None


def read_database(database, log):
    database.execute("BEGIN")
    first = first_entry(database)
    begin_database(database, log, first)
    sql = "SELECT size, at, note, kept FROM checkpoint WHERE size >= ? OR ? = 0 ORDER BY size"
    rows = database.execute(sql, (first, first)).fetchall()
    for size, _, _, kept in rows[:-1]:
        if not kept:
            raise tampered(f"the checkpoint of size {size} is neither the newest nor kept")
    due, marks, subtrees, named = list(rows), set(), {}, []
    log.by_id = set()
    for sequence, id, at, leaf, body in database.execute(
        "SELECT sequence, id, at, leaf, body FROM entry WHERE sequence >= ? OR ? = 0 ORDER BY sequence", (first, first)
    ):
        while due and due[0][0] <= log.tree.size:
            take_checkpoint(log, due.pop(0))
        if not isinstance(body, bytes) or not isinstance(leaf, bytes):
            raise tampered(f"the row of entry {sequence} is none")
        entry, complete = log.entry(sequence, body, leaf, id, at)
        marks.update((word, sequence) for word in entry.words)
        subtrees.update({(level, place): found for level, place, found in complete if level % 8 == 0})
        named += entry.evidence
    for row in due:
        take_checkpoint(log, row)
    verify_derived(database, log, marks, subtrees, first)
    verify_frozen(database, log)
    verify_blobs(database, named)
    return log.finish()


def begin_database(database, log, first):
    """Goes to where the log begins; whoever has read the shards is there already."""
    if log.tree.size not in (0, first):
        if log.tree.size > first:
            raise Bad(ROLLED_BACK, f"the shards have {log.tree.size} entries, and the log begins with {first}: it is older")
        raise Bad(INCOMPLETE, f"the shard of the entries {log.tree.size} to {first - 1} is missing")
    if not first:
        return
    kept = kept_beginning(database, first)
    if log.tree.size == 0:
        log.begin(kept)
    elif kept.bytes() != log.carry().bytes():
        raise tampered("what is kept of the frozen entries is not what their shards leave behind")
    left = database.execute("SELECT count(*) FROM entry WHERE sequence < ?", (first,)).fetchone()[0]
    if left:
        log.notes.append(f"{left} frozen entries are still there: a freeze was cut off")


def verify_frozen(database, log):
    """The table of shards is what the entries of the freezes say, as far as they were read."""
    rows = set()
    if database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'shard'").fetchone()[0]:
        rows = set(database.execute("SELECT until, manifest, freeze FROM shard"))
    read = log.began.size if log.began else 0
    said = {(froze.until, froze.manifest, froze.sequence) for froze in log.froze}
    if said != {row for row in rows if row[2] >= read}:
        raise tampered("what is said to be frozen is not what the entries of the freezes say")


def take_checkpoint(log, row):
    size, at, note, _ = row
    if not isinstance(note, str) or size < 0:
        raise tampered("a row of the checkpoints is none")
    log.checkpoint(f"the checkpoint of size {size}", note, size, at)


def verify_derived(database, log, marks, subtrees, first):
    size = log.tree.size
    found = {(level, place): hash for level, place, hash in database.execute("SELECT level, place, hash FROM subtree")}
    # Those over the frozen entries were compared with the root, or nothing is frozen.
    if first:
        frozen = {(level, place) for level in range(8, 62, 8) for place in range(first >> level)}
        found = {key: hash for key, hash in found.items() if key not in frozen}
    if log.whole() and found != subtrees or any(found.get(key) != hash for key, hash in subtrees.items()):
        raise tampered("the stored subtrees are not those of the entries")
    texts = dict(database.execute("SELECT id, text FROM word"))
    rows = list(database.execute("SELECT word, sequence FROM mark"))
    left = database.execute("SELECT count(*) FROM entry WHERE sequence < ?", (first,)).fetchone()[0]
    indexed = {(texts.get(word), at) for word, at in rows if not 0 <= size <= at and not (left and at < first)}
    if log.whole():
        if indexed != marks or len(set(texts.values())) != len(texts) or {word for word, _ in rows} != set(texts):
            raise tampered("the index is not that of the entries")
        # The index of ids, read alone.
        by_id = database.execute("SELECT id, sequence FROM entry INDEXED BY sqlite_autoindex_entry_1 ORDER BY id")
        if {row for row in by_id if row[1] >= first or not first} != log.by_id:
            raise tampered("the index of ids is not that of the entries")
        by_text = database.execute("SELECT id, text FROM word INDEXED BY sqlite_autoindex_word_1 ORDER BY text")
        if dict(by_text) != texts:
            raise tampered("the words are found by other texts than they have")
        if {id: at for id, (at, _) in log.open.items()} != dict(database.execute("SELECT id, sequence FROM open_intent")):
            raise tampered("the table of open intents is not that of the entries")


def verify_blobs(database, named):
    sizes = {}
    for sha256, data in database.execute("SELECT sha256, bytes FROM evidence"):
        if hashlib.sha256(data).digest() != sha256:
            raise tampered(f"the evidence {sha256.hex()} has bytes of another hash")
        sizes[sha256] = len(data)
    for sha256, size in named:
        if sizes.get(sha256, size) != size:
            raise tampered(f"the evidence {sha256.hex()} has another size than an entry says")
    for sha256, salt, text in database.execute("SELECT sha256, salt, text FROM private"):
        if hashlib.sha256(salt + text.encode()).digest() != sha256:
            raise tampered(f"the private text {sha256.hex()} is not the one that was written")


# --- static files -----------------------------------------------------------------------------------------------------


def tile_path(kind, index, width):
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03}")
    return f"tile/{kind}/{'/'.join(groups)}" + ("" if width == 256 else f".p/{width}")


def read_part(path, kind, index, width):
    for name in {tile_path(kind, index, width): 0, tile_path(kind, index, 256): 0}:
        try:
            with open(os.path.join(path, name), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            pass
    raise Bad(INCOMPLETE, f"{tile_path(kind, index, width)} is missing")


def verify_tree(path, args):
    log = Log(args, args.key)
    with open(os.path.join(path, "checkpoint"), encoding="utf-8", errors="replace") as file:
        note = file.read()
    size, hashes, missing = Checkpoint("the checkpoint", note).size, {}, None
    for index in range((size + 255) // 256):
        width = min(256, size - 256 * index)
        try:
            bundle = read_part(path, "entries", index, width)
            tile = read_part(path, 0, index, width)
        except Bad as bad:
            missing = bad
            break
        for at in range(width):
            length = int.from_bytes(bundle[:2], "big")
            body, bundle = bundle[2 : 2 + length], bundle[2 + length :]
            if len(body) != length or length == 0:
                raise tampered(f"the bundle of entry {256 * index + at} ends too early")
            _, complete = log.entry(256 * index + at, body, tile[32 * at : 32 * at + 32])
            for level, place, found in complete:
                if level % 8 == 0:
                    hashes.setdefault((level // 8, place // 256), []).append(found)
    for (level, index), expected in hashes.items():
        try:
            if read_part(path, level, index, len(expected))[: 32 * len(expected)] != b"".join(expected):
                raise tampered(f"{tile_path(level, index, len(expected))} is not that of the entries")
        except Bad as bad:
            if bad.code == TAMPERED:
                raise
            missing = missing or bad
    log.checkpoint("the checkpoint", note)
    if missing and log.whole():
        raise missing
    return log.finish()


# --- proofs -----------------------------------------------------------------------------------------------------------


def verify_proof(path, args):
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    if document.get("format") != "keyward-audit-proof/v1":
        raise Bad(UNVERIFIABLE, f"{path} is no proof that is understood")
    if not args.key:
        raise Bad(UNVERIFIABLE, "no key of the log was given")
    try:
        sequence, body = number(document["sequence"]), b64(document["entry"])
        proof = [b64(hash) for hash in document["inclusion"]]
        note = document["checkpoint"] + ""
    except (ValueError, KeyError, TypeError) as error:
        raise tampered(f"the proof cannot be read: {error}") from None
    Entry(sequence, body)
    checkpoint = Checkpoint("the checkpoint of the proof", note)
    seen = checkpoint.judge(args.key, args.witness)
    if sequence >= checkpoint.size or root_from_proof(sequence, checkpoint.size, leaf_hash(body), proof) != checkpoint.root:
        raise tampered("the entry is not in the tree of the checkpoint")
    for witness in args.witness:
        if witness.name not in seen:
            raise Bad(UNVERIFIABLE, f"the checkpoint was not seen by the witness {witness.name}")
    return f"entry {sequence} is in {checkpoint.origin} of size {checkpoint.size}"


# --- the command ------------------------------------------------------------------------------------------------------


def verify(path, args):
    inside = os.path.join(path, "keyward.db")
    if os.path.isdir(path) and os.path.exists(inside):
        return verify_database(inside, args)
    if os.path.isdir(path) and os.path.exists(os.path.join(path, "shard.json")):
        return verify_shards(path, args)
    if os.path.isdir(path) and os.path.exists(os.path.join(path, "checkpoint")):
        return verify_tree(path, args)
    if os.path.isfile(path):
        with open(path, "rb") as file:
            is_database = file.read(16) == b"SQLite format 3\0"
        return verify_database(path, args) if is_database else verify_proof(path, args)
    raise Bad(UNVERIFIABLE, f"{path} is neither a log nor a proof")


def main():
    parser = argparse.ArgumentParser(description="Verifies a Keyward audit log.", epilog="Exit: 0 ok, 2 tampered, "
                                     "3 rolled back, 4 incomplete, 5 unverifiable.")
    parser.add_argument("paths", nargs="+", metavar="PATH")
    parser.add_argument("--key", action="append", default=[], type=Key.parse, metavar="VKEY")
    parser.add_argument("--witness", action="append", default=[], type=Key.parse, metavar="VKEY")
    parser.add_argument("--against", action="append", default=[], metavar="CHECKPOINT")
    parser.add_argument("--shard", action="append", default=[], metavar="DIR")
    parser.add_argument("--lock", metavar="FILE")
    args = parser.parse_args()
    codes = []
    for path in args.paths:
        try:
            code, text = OK, verify(path, args)
        except Bad as bad:
            code, text = bad.code, str(bad)
        except (OSError, ValueError) as error:
            code, text = UNVERIFIABLE, str(error)
        print(f"{code} {path}: {NAMES[code]}: {text}")
        codes.append(code)
    if not args.against and not args.witness:
        print("nothing from outside was given to compare with", file=sys.stderr)
    sys.exit(next((code for code in (2, 3, 4, 5) if code in codes), 0))


if __name__ == "__main__":
    main()
