"""Callers of the Workload API: the published client of SPIFFE (PyPI `spiffe`), and calls that it would never make.

client.py fetch|bundles|watch|fetch-forever SOCKET [--uid N]
client.py call SOCKET METHOD [--bare] [--uid N]     a call without the client; --bare without its metadata
client.py nack SOCKET NAME                          takes a secret and refuses it
client.py orphan SOCKET RELAY                       connects, ends, and leaves the connection to a child at RELAY
Prints a line of JSON for each answer.
"""

import json
import os
import socket
import sys
import threading
import time

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from spiffe import WorkloadApiClient

arguments = sys.argv[1:]
if "--uid" in arguments:
    at = arguments.index("--uid")
    uid = int(arguments[at + 1])
    del arguments[at : at + 2]
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
bare = "--bare" in arguments
arguments = [a for a in arguments if a != "--bare"]
what, path = arguments[0], arguments[1]


def say(**answer):
    print(json.dumps(answer), flush=True)


def pump(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass
    for end in (one, other):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def orphan(relay):
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(relay)
    listener.listen(1)
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.01)
    say(ready=True)
    caller, _ = listener.accept()
    threading.Thread(target=pump, args=(caller, connected), daemon=True).start()
    pump(connected, caller)


if what == "orphan":
    orphan(arguments[2])
    sys.exit()

url = "unix:" + path


def spki(key):
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def shown(context):
    svids = [
        {
            "id": str(svid.spiffe_id),
            "serial": format(svid.leaf.serial_number, "x"),
            "chain": len(svid.cert_chain),
            "fits": spki(svid.private_key.public_key()) == spki(svid.leaf.public_key()),
            "lives": (svid.leaf.not_valid_after_utc - svid.leaf.not_valid_before_utc).total_seconds(),
        }
        for svid in context.x509_svids
    ]
    bundles = {b.trust_domain.name: len(b.x509_authorities) for b in context.x509_bundle_set.bundles}
    return {"svids": svids, "bundles": bundles}


def call(method):
    metadata = [] if bare else [("workload.spiffe.io", "true")]
    with grpc.insecure_channel(url) as channel:
        raw = channel.unary_stream(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            for answer in raw(b"", metadata=metadata, timeout=20):
                say(code="OK", bytes=len(answer))
                return
            say(code="OK", bytes=0)
        except grpc.RpcError as error:
            say(code=error.code().name, text=error.details())


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def nack(name):
    """Streams a secret and refuses it; then fetches it once."""
    service = "/envoy.service.secret.v3.SecretDiscoveryService/"
    asked = field(3, name.encode())
    go_on = threading.Event()

    def questions():
        yield asked
        go_on.wait()
        yield asked + field(5, b"1") + field(6, b"\x08\x0d" + field(2, b"no such curve"))
        time.sleep(3)

    with grpc.insecure_channel(url) as channel:
        stream = channel.stream_stream(service + "StreamSecrets", request_serializer=bytes, response_deserializer=bytes)
        answers = 0
        for _ in stream(questions(), timeout=20):
            answers += 1
            go_on.set()
        fetch = channel.unary_unary(service + "FetchSecrets", request_serializer=bytes, response_deserializer=bytes)
        say(answers=answers, fetched=name.encode() in fetch(asked, timeout=20))


if what == "call":
    call(arguments[2])
    sys.exit()
if what == "nack":
    nack(arguments[2])
    sys.exit()

client = WorkloadApiClient(socket_path=url)
if what == "watch":
    done = threading.Event()
    client.stream_x509_contexts(lambda c: say(**shown(c)), lambda e: say(error=str(e)))
    done.wait()
try:
    if what == "fetch":
        say(**shown(client.fetch_x509_context()))
    elif what == "bundles":
        bundles = client.fetch_x509_bundles()
        say(bundles={b.trust_domain.name: len(b.x509_authorities) for b in bundles.bundles})
except Exception as error:
    say(error=str(error))
