"""Has pkilint look at certificates and revocation lists, all in this one process.

Reads lines of `certificate BASE64` or `list BASE64`. A certificate and a list are also judged beside their issuer, if it is
among the certificates. Writes a line of JSON for each finding, with the number of the line that it is about, and a last one that
counts what was looked at.

pkilint knows a handful of URI schemes and no wildcards (its profile for public servers takes these back by a filter too): the rest
of such a name is judged as if it had `https`, or no wildcard.
"""

import base64
import json
import logging
import sys

import validators
from pkilint import loader, pkix
from pkilint.bin import lint_pkix_signer_signee_cert_chain as pair
from pkilint.pkix import certificate, crl, extension, name
from pyasn1.codec.der.encoder import encode

logging.disable(logging.CRITICAL)


def of_certificates():
    """What `lint_pkix_cert` judges by."""
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


def of_lists():
    """What `lint_crl` judges by."""
    return crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )


def is_known(code, value):
    """Whether it is a name that pkilint does not know, and is good but for that."""
    if code == "pkix.invalid_uri_syntax" and value.startswith("spiffe://"):
        return validators.url("https" + value.removeprefix("spiffe")) is True
    if code == "pkix.invalid_domain_name_syntax" and value.startswith("*."):
        return validators.domain(value.removeprefix("*.")) is True
    return False


def dn(document, which):
    return encode(document.root.navigate("tbsCertificate." + which).pdu)


def main():
    certificates, lists = [], []
    for number, line in enumerate(sys.stdin):
        kind, text = line.split()
        (certificates if kind == "certificate" else lists).append((number, base64.b64decode(text)))

    def tell(number, results):
        for result in results:
            for found in result.finding_descriptions:
                severity, code = found.finding.severity.name, found.finding.code
                if is_known(code, str(result.node.pdu)):
                    continue
                print(json.dumps({"line": number, "severity": severity, "code": code, "text": found.message}))

    read = loader.RFC5280CertificateDocumentLoader().load_der_document
    issuers = {}
    judge = of_certificates()
    for number, der in certificates:
        document = read(der)
        tell(number, judge.validate(document.root))
        if document.is_ca:
            # Those with one name have one key: a root and its cross-signature.
            issuers.setdefault(dn(document, "subject"), der)

    decode = pair.create_decoder_validation_container()
    issuer_judge, subject_judge = pair.create_issuer_validation_container(), pair.create_subject_validation_container()
    pairs = 0
    for number, der in certificates:
        both = {}
        subject = read(der, "subject", None, both)
        above = issuers.get(dn(subject, "issuer"))
        if above is None:
            continue
        pairs += 1
        issuer = read(above, "issuer", None, both)
        both.update(issuer=issuer, subject=subject)
        decode.validate(issuer.root)
        decode.validate(subject.root)
        tell(number, issuer_judge.validate(issuer.root))
        tell(number, subject_judge.validate(subject.root))

    judge = of_lists()
    for number, der in lists:
        document = loader.RFC5280CertificateListDocumentLoader().load_der_document(der)
        tell(number, judge.validate(document.root))
    print(json.dumps({"certificates": len(certificates), "pairs": pairs, "lists": len(lists)}))


main()
