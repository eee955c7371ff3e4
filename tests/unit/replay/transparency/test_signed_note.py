"""Signed notes, keys and tree heads: the vectors of C2SP and of Go's `sumdb/note`, and malformed ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import KernelError, ValidationError
from replay.transparency.signed_note import SignedNote, SignerKey, TreeHead, VerifierKey, sign

# -------------------------------------------------------------------------- vectors of golang.org/x/mod/sumdb/note and C2SP
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
C2SP_NOTE = """\
Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
"""
C2SP_CHECKPOINT = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""

BAD_NOTES = {
    "no signatures": TEXT,
    "an empty line only": TEXT + "\n",
    "no last line break": TEXT + "\n" + PETER_LINE[:-1],
    "a control character": "\x01" + TEXT + "\n" + PETER_LINE,
    "a carriage return": TEXT.replace("\n", "\r\n") + "\n" + PETER_LINE,
    "a space in a name": TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "Bad Name"),
    "a plus in a name": TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "a+b"),
    "a line that is no signature": TEXT + "\n" + PETER_LINE + "Unexpected line.\n",
    "a signature that is too short": TEXT + "\n— PeterNeumann x08goA==\n",
    "base64 with stray bits": TEXT + "\n" + PETER_LINE.replace("JnAM=", "JnAN="),
    "too many signatures": TEXT + "\n" + PETER_LINE * 101,
}


def keys(*texts: str) -> list[VerifierKey]:
    """Parse verifier keys."""
    return [VerifierKey.parse(text) for text in texts]


def note(*lines: str, text: str = TEXT) -> SignedNote:
    """Return a note with these signature lines."""
    return SignedNote.parse((text + "\n" + "".join(lines)).encode())


def test_the_published_note_is_reproduced() -> None:
    """The published key signs the published text with the published signature."""
    key = SignerKey.parse(PETER_SIGNER)
    assert str(sign(TEXT, [key])) == TEXT + "\n" + PETER_LINE
    assert (str(key.verifier), key.secret()) == (PETER, PETER_SIGNER)


def test_published_notes_are_verified() -> None:
    """Signatures of known keys count once each; other signatures are ignored."""
    peter, enoch = keys(PETER, ENOCH)
    both = note(PETER_LINE, ENOCH_LINE)
    assert both.signers([peter]) == (peter,)
    assert both.signers([enoch, peter]) == (peter, enoch)
    assert note(PETER_LINE, PETER_LINE, ENOCH_LINE).signers([peter]) == (peter,)


def test_a_note_without_a_trusted_signature_is_rejected() -> None:
    """A note needs a trusted signature; a known name with another id, or an id with another name, is unknown."""
    other = str(SignerKey.create("PeterNeumann").verifier)
    for trusted in ([], keys(ENOCH), keys(other)):
        with pytest.raises(ValidationError, match=r"unknown key.*PeterNeumann\+c74f20a3"):
            note(PETER_LINE).signers(trusted)
    with pytest.raises(ValidationError, match="unknown key"):
        note(PETER_LINE.replace("PeterNeumann", "CarmenSandiego")).signers(keys(PETER))


def test_a_bad_signature_of_a_known_key_is_rejected() -> None:
    """A bad signature is an error even beside a good one of another key."""
    line = PETER_LINE.replace("UgYN", "UgYM")
    with pytest.raises(ValidationError, match=r"bad signature.*PeterNeumann\+c74f20a3"):
        note(ENOCH_LINE, line).signers(keys(PETER, ENOCH))
    with pytest.raises(ValidationError, match="bad signature"):
        note(PETER_LINE, text=TEXT.replace("answer", "answers")).signers(keys(PETER))


@pytest.mark.parametrize("text", [C2SP_NOTE, C2SP_CHECKPOINT, TEXT + "\n" + PETER_LINE + ENOCH_LINE])
def test_notes_round_trip(text: str) -> None:
    """The published examples are parsed and formatted byte for byte; empty lines in a text are kept."""
    found = SignedNote.parse(text.encode())
    assert str(found) == text
    assert found.text == text[: text.rindex("\n\n") + 1]


@pytest.mark.parametrize("text", BAD_NOTES.values(), ids=BAD_NOTES)
def test_a_malformed_note_is_rejected(text: str) -> None:
    """A text that violates the format is not a note."""
    with pytest.raises(ValidationError, match="not a signed note"):
        SignedNote.parse(text.encode())


def test_invalid_and_oversized_bytes_are_rejected() -> None:
    """Bytes that are not UTF-8, or more than the limit, are not a note."""
    for data in (b"\xff" + (TEXT + "\n" + PETER_LINE).encode(), b"a" * 1_000_001):
        with pytest.raises(ValidationError, match="not a signed note"):
            SignedNote.parse(data)


def test_no_part_of_a_key_is_a_key() -> None:
    """Every substring of a key, and every key with one character changed, is rejected, as in Go's tests."""
    for kind, text in ((VerifierKey, PETER), (SignerKey, PETER_SIGNER)):
        parts = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1) if text[i:j] != text]
        changed = [text[:i] + chr(ord(item) + 1) + text[i + 1 :] for i, item in enumerate(text)]
        for bad in [*parts, *changed, ""]:
            with pytest.raises(ValidationError, match=r"not a (verifier|signer) key"):
                kind.parse(bad)


@pytest.mark.parametrize(
    "text",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_a_key_of_another_kind_is_rejected(text: str) -> None:
    """A key with a wrong length or algorithm is rejected although its id is right."""
    with pytest.raises(ValidationError, match="not a verifier key"):
        VerifierKey.parse(text)


def test_a_signer_key_is_not_revealed() -> None:
    """Neither the repr of a signer key nor the error for a malformed one contains the secret."""
    key = SignerKey.parse(PETER_SIGNER)
    assert "seed" not in repr(key)
    with pytest.raises(ValidationError) as caught:
        SignerKey.parse(PETER_SIGNER[:-1] + "A")
    assert "AYEKFALV" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb"])
def test_a_key_needs_a_name(name: str) -> None:
    """Spaces, pluses and the empty text are not valid names."""
    with pytest.raises(ValidationError, match="is invalid: use a name"):
        SignerKey.create(name)


def test_created_keys_differ_and_work() -> None:
    """Two new keys differ, round-trip as text, and their signatures verify."""
    one, two = SignerKey.create("x.example/log"), SignerKey.create("x.example/log")
    assert one != two
    assert [SignerKey.parse(key.secret()) for key in (one, two)] == [one, two]
    made = sign("a\n", [one, two])
    assert SignedNote.parse(str(made).encode()).signers([two.verifier, one.verifier]) == (one.verifier, two.verifier)


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_tree_heads_round_trip(size: int, root: bytes, chain: bytes) -> None:
    """Origin, size and both hashes are parsed as formatted."""
    made = TreeHead("exchange-kernel/paper/0123", size, root, chain)
    assert TreeHead.parse(made.text()) == made


GOOD = TreeHead("o", 7, bytes(32), bytes(32)).text()


def test_unknown_extension_lines_are_ignored() -> None:
    """A tree head may have extension lines of other programs."""
    assert TreeHead.parse(GOOD + "witnessed by x\n") == TreeHead.parse(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        GOOD[1:],
        GOOD.replace("\n7\n", "\n07\n"),
        GOOD.replace("\n7\n", "\n-7\n"),
        GOOD.replace("\n7\n", "\n٧\n"),
        GOOD.replace("\n7\n", "\n" + "9" * 5000 + "\n"),
        GOOD.replace("A=\n", "B=\n"),
        GOOD.replace("AAAA", "AAA", 1),
        GOOD.replace("AAAA", "", 1),
        GOOD.replace("chain", "chains"),
        GOOD + GOOD.split("\n")[3] + "\n",
        GOOD + "\n",
        GOOD[:-1],
        "\n".join(GOOD.split("\n")[:2]) + "\n",
        "",
    ],
)
def test_a_malformed_tree_head_is_rejected(text: str) -> None:
    """Each line has one canonical form."""
    with pytest.raises(ValidationError, match="not a tree head"):
        TreeHead.parse(text)


@given(st.one_of(st.binary(), st.text(alphabet="o7\n A=—+chain ").map(str.encode)))
def test_any_bytes_are_parsed_or_rejected(data: bytes) -> None:
    """Any bytes are a note, a tree head, a key, or a `ValidationError`."""
    text = data.decode(errors="surrogateescape")
    readers: tuple[Callable[[], object], ...] = (
        lambda: SignedNote.parse(data),
        lambda: TreeHead.parse(text),
        lambda: VerifierKey.parse(text),
        lambda: SignerKey.parse("PRIVATE+KEY+" + text),
    )
    for read in readers:
        with suppress(ValidationError):
            read()


def test_without_cryptography_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra to install."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(KernelError, match=r"exchange-kernel\[notes\]"):
        SignerKey.create("a").sign("a\n")
    with pytest.raises(KernelError, match=r"exchange-kernel\[notes\]"):
        note(PETER_LINE).signers([VerifierKey("PeterNeumann", VerifierKey.parse(PETER).public_key)])
