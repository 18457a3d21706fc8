"""Signatures of models: what is accepted, and that every change is refused."""

import base64
import stat
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rta_service.domain.errors import InvalidInput, ModelRefused
from rta_service.scoring.signature import (
    Signature,
    TrustedKey,
    generate_key,
    key_from_secret,
    key_id,
    public_of,
    read_key,
    read_trusted,
    sign,
    trusted_line,
    verify,
    write_key,
    write_signature,
)

MANIFEST = msgspec.json.encode({"name": "register", "version": "v1", "sha256": "ab" * 32})
KEY = bytes(range(32))
TRUSTED = {key_id(public_of(KEY)): TrustedKey("growth", public_of(KEY))}


def signed(manifest: bytes = MANIFEST, key: bytes = KEY) -> bytes:
    return msgspec.json.encode(sign(manifest, key))


def test_a_trusted_keys_signature_is_accepted_and_says_whose_it_is() -> None:
    assert verify(MANIFEST, signed(), TRUSTED).name == "growth"
    assert key_id(public_of(KEY)) == "56475aa75463474c"


def test_an_unknown_key_is_refused_and_the_trusted_ones_are_named() -> None:
    with pytest.raises(ModelRefused, match=r"is not trusted here; trusted are: \w+ \(growth\)"):
        verify(MANIFEST, signed(key=generate_key()), TRUSTED)
    with pytest.raises(
        ModelRefused, match=r"are: none\. To trust it, .* added to secrets/model_keys"
    ):
        verify(MANIFEST, signed(), {})


def test_a_key_that_claims_anothers_id_is_refused() -> None:
    stolen = msgspec.structs.replace(sign(MANIFEST, generate_key()), key_id=next(iter(TRUSTED)))

    with pytest.raises(ModelRefused, match="not a signature of this manifest by the key of growth"):
        verify(MANIFEST, msgspec.json.encode(stolen), TRUSTED)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"null",
        b"\xff\xfe",
        b'{"key_id": "x"}',
        msgspec.json.encode(Signature("x", "no base64!")),
        msgspec.json.encode(Signature(next(iter(TRUSTED)), base64.b64encode(bytes(63)).decode())),
        msgspec.json.encode(msgspec.structs.replace(sign(MANIFEST, KEY), algorithm="none")),
    ],
)
def test_a_malformed_signature_is_refused(damaged: bytes) -> None:
    with pytest.raises(ModelRefused, match=r"signature\.json"):
        verify(MANIFEST, damaged, TRUSTED)


def _mutant(data: bytes, chance: np.random.Generator) -> bytes:
    """Flip a bit, drop, double or replace a byte, or cut; always another content."""
    place, kind = int(chance.integers(len(data))), int(chance.integers(5))
    head, byte, tail = data[:place], data[place], data[place + 1 :]
    flipped = head + bytes([byte ^ (1 << int(chance.integers(8)))]) + tail
    doubled = head + bytes([byte, byte]) + tail
    replaced = head + bytes([(byte + int(chance.integers(1, 256))) % 256]) + tail
    return (flipped, head + tail, doubled, replaced, head)[kind]


@pytest.mark.parametrize("what", ["manifest", "signature", "key"])
def test_every_change_of_manifest_signature_or_key_is_refused(what: str) -> None:
    chance = np.random.default_rng(6)
    good = sign(MANIFEST, KEY)
    raw = base64.b64decode(good.signature)
    public = public_of(KEY)
    for _ in range(1_500):
        manifest, signature, trusted = MANIFEST, good, TRUSTED
        if what == "manifest":
            manifest = _mutant(MANIFEST, chance)
        elif what == "signature":
            text = base64.b64encode(_mutant(raw, chance)).decode()
            signature = msgspec.structs.replace(good, signature=text)
        else:
            mutant = (_mutant(public, chance) + bytes(32))[:32]
            if mutant == public:
                continue
            trusted = {good.key_id: TrustedKey("growth", mutant)}

        with pytest.raises(ModelRefused):
            verify(manifest, msgspec.json.encode(signature), trusted)


def test_every_change_of_the_signatures_file_is_refused_or_says_the_same() -> None:
    chance = np.random.default_rng(7)
    good = signed()
    for _ in range(1_500):
        mutant = _mutant(good, chance)
        try:
            verify(MANIFEST, mutant, TRUSTED)
        except ModelRefused:
            continue
        assert msgspec.json.decode(mutant, type=Signature) == sign(MANIFEST, KEY)


def test_a_private_key_is_kept_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "key"

    write_key(path, KEY)

    assert read_key(path) == KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(InvalidInput, match="can't be made"):
        write_key(path, generate_key())
    path.chmod(0o640)
    with pytest.raises(InvalidInput, match="chmod 600"):
        read_key(path)


@pytest.mark.parametrize("text", ["", "no base64!", "YWJj"])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(text)

    with pytest.raises(InvalidInput, match="is not a private key of `rta models keygen`"):
        read_key(path)
    with pytest.raises(InvalidInput, match="can't be read"):
        read_key(tmp_path / "none")


def test_trusted_keys_are_read_with_their_comments(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(
        "# who may upload\n\n" + trusted_line("growth", public_of(KEY)).strip() + " # us"
    )

    assert read_trusted(path) == TRUSTED


@pytest.mark.parametrize(
    ("line", "words"), [("a b c", "line 2"), ("a YWJj", "the key has 3 bytes")]
)
def test_a_wrong_line_of_the_trusted_keys_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# keys\n{line}\n")

    with pytest.raises(InvalidInput, match=words):
        read_trusted(path)
    with pytest.raises(InvalidInput, match="can't be read"):
        read_trusted(tmp_path / "none")


def test_a_secret_gives_one_key_and_a_signature_can_be_written(tmp_path: Path) -> None:
    key = key_from_secret(b"a secret of any length")
    write_signature(tmp_path / "signature.json", sign(MANIFEST, key))

    trusted = {key_id(public_of(key)): TrustedKey("house", public_of(key))}

    assert verify(MANIFEST, (tmp_path / "signature.json").read_bytes(), trusted).name == "house"
