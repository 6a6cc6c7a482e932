"""Keys and tokens by PyJWT, so that what is checked was not made by what checks it.

tokens.py key ALGORITHM FILE KID          writes a private key, and prints it as a public JSON Web Key
tokens.py sign ALGORITHM FILE KID CLAIMS  prints a token that says CLAIMS
"""

import json
import sys

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

KINDS = {
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "PS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "ES384": (lambda: ec.generate_private_key(ec.SECP384R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}

what, algorithm, file, kid = sys.argv[1:5]
if what == "key":
    generate, kind = KINDS[algorithm]
    key = generate()
    with open(file, "wb") as out:
        out.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    jwk = kind.to_jwk(key.public_key(), as_dict=True)
    print(json.dumps({**jwk, "kid": kid, "use": "sig"}))
else:
    with open(file, "rb") as pem:
        print(jwt.encode(json.loads(sys.argv[5]), pem.read(), algorithm, {"kid": kid}))
