"""NKeys, and the JWTs that they sign, as a NATS server reads them."""

import base64
import time

import nkeys
import orjson


class Key:
    """A key of some kind, made of a number."""

    def __init__(self, prefix, number):
        self.seed = nkeys.encode_seed(bytes([number]) * 32, prefix).decode()
        self._keys = nkeys.from_seed(bytearray(self.seed.encode()))
        self.public = self._keys.public_key.decode()

    def jwt(self, name, subject, *, expires=None, **claims):
        """Return a JWT for another key, which this one signs."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {"iat": int(time.time()), "iss": self.public, "jti": name, "name": name}
        body |= {"sub": subject.public, "nats": {"version": 2, **claims}}
        body |= {} if expires is None else {"exp": expires}  # a Unix second
        signed = ".".join(_encoded(orjson.dumps(part)) for part in (head, body))
        return f"{signed}.{_encoded(self._keys.sign(signed.encode()))}"


def _encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


OPERATOR = Key(nkeys.PREFIX_BYTE_OPERATOR, 1)
ACCOUNT = Key(nkeys.PREFIX_BYTE_ACCOUNT, 2)
USER, STRANGER = (Key(nkeys.PREFIX_BYTE_USER, number) for number in (3, 4))
UNLIMITED = dict.fromkeys(("subs", "data", "payload"), -1)
OF_ACCOUNT = UNLIMITED | dict.fromkeys(("conn", "leaf", "imports", "exports"), -1)


def creds(directory, key, jwt):
    """Write a file as `nsc` does."""
    file = directory / "user.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n\n"
    )
    return file
