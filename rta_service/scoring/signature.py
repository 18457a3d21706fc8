"""Who vouches for a model: an Ed25519 signature of its manifest, whose hashes cover the rest.

signature.json       Signature, beside the manifest
a key file           one line of base64, the private key; readable by its owner only
a trusted-keys file  a line a key: a name, blanks, the public key in base64; # begins a comment
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rta_service.domain.errors import InvalidInput, ModelRefused

_CONTEXT: Final = b"rta-service model manifest 1\n"
"""So that a signature given for another purpose is none for a model."""
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_OTHERS_MODE: Final = 0o077


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of signature.json."""

    key_id: str
    signature: str
    """64 bytes in base64."""
    algorithm: str = "ed25519"


class TrustedKey(NamedTuple):
    """A public key, and whose it is."""

    name: str
    public: bytes


def generate_key() -> bytes:
    """Make a new private key, 32 bytes."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


def key_from_secret(secret: bytes) -> bytes:
    """Make the private key that belongs to a secret of any length."""
    return hashlib.sha256(_CONTEXT + secret).digest()


def public_of(key: bytes) -> bytes:
    """Give the public key, 32 bytes, of a private one."""
    return Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def key_id(public: bytes) -> str:
    """Name a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def sign(manifest: bytes, key: bytes) -> Signature:
    """Sign a manifest's bytes as they stand in the file."""
    signer = Ed25519PrivateKey.from_private_bytes(key)
    made = signer.sign(_CONTEXT + manifest)
    return Signature(key_id(public_of(key)), base64.b64encode(made).decode())


def verify(manifest: bytes, signature: bytes, trusted: Mapping[str, TrustedKey]) -> TrustedKey:
    """Check the bytes of signature.json against those of the manifest; gives whose key it was.

    Raises ModelRefused when the file is malformed, the key is not trusted, or the signature is
    not of these bytes by this key.
    """
    try:
        said = msgspec.json.decode(signature, type=Signature)
        value = base64.b64decode(said.signature, validate=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise ModelRefused(f"signature.json: malformed ({error})") from error
    if said.algorithm != "ed25519" or len(value) != _SIGNATURE_BYTES:
        raise ModelRefused("signature.json: not an ed25519 signature of 64 bytes")
    if base64.b64encode(value).decode() != said.signature:
        raise ModelRefused("signature.json: its base64 is not in canonical form")
    key = trusted.get(said.key_id)
    if key is None:
        known = ", ".join(f"{name} ({known.name})" for name, known in trusted.items())
        raise ModelRefused(
            f"signature.json: the key {said.key_id[:64]!r} is not trusted here; trusted are: "
            f"{known or 'none'}. To trust it, have its line of `rta models keygen` (it ends with "
            "this id) added to secrets/model_keys in the service's data folder, or to the file of "
            "RTA_MODEL_KEYS; it counts from the next upload on"
        )
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(value, _CONTEXT + manifest)
    except InvalidSignature as error:
        raise ModelRefused(
            f"signature.json: not a signature of this manifest by the key of {key.name}"
        ) from error
    return key


def write_signature(path: Path, signature: Signature) -> None:
    """Write signature.json."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(signature)))


def write_key(path: Path, key: bytes) -> None:
    """Write a private key to a new file that only its owner reads; raises InvalidInput."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(f"can't be made ({error.strerror})", str(path)) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(base64.b64encode(key).decode() + "\n")


def read_key(path: Path) -> bytes:
    """Read a private key; raises InvalidInput, also when others may read the file."""
    try:
        mode, text = path.stat().st_mode, path.read_text()
        key = base64.b64decode(text.strip(), validate=True)
    except OSError as error:
        raise InvalidInput(f"can't be read ({error.strerror})", str(path)) from error
    except ValueError as error:
        raise InvalidInput("is not a private key of `rta models keygen`", str(path)) from error
    if mode & _OTHERS_MODE:
        raise InvalidInput("others may read this private key: chmod 600 it", str(path))
    if len(key) != _KEY_BYTES:
        raise InvalidInput("is not a private key of `rta models keygen`", str(path))
    return key


def trusted_line(name: str, public: bytes) -> str:
    """Write a key as a line of the trusted-keys file, with the id that refusals name it by."""
    return f"{name} {base64.b64encode(public).decode()}  # {key_id(public)}\n"


def read_trusted(path: Path) -> dict[str, TrustedKey]:
    """Read a trusted-keys file: key id to key; raises InvalidInput naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"can't be read ({error})", str(path)) from error
    keys = [
        _trusted(line.split("#")[0].split(), f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.split("#")[0].strip()
    ]
    return {key_id(key.public): key for key in keys}


def _trusted(words: list[str], place: str) -> TrustedKey:
    try:
        name, text = words
        public = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidInput("is not a name and a public key in base64", place) from error
    if len(public) != _KEY_BYTES:
        raise InvalidInput(f"the key has {len(public)} bytes, not {_KEY_BYTES}", place)
    return TrustedKey(name, public)
