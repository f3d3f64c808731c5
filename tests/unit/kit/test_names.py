from __future__ import annotations

import random
import uuid

from nodeport.kit.names import SUFFIX_ALPHABET, generate_name, random_suffix, random_uid


def test_a_suffix_has_five_characters_of_the_alphabet() -> None:
    suffixes = {random_suffix(random.Random(seed)) for seed in range(500)}
    assert len(suffixes) > 490
    assert {character for suffix in suffixes for character in suffix} == set(SUFFIX_ALPHABET)
    assert {len(suffix) for suffix in suffixes} == {5}


def test_a_generated_name_begins_with_its_base() -> None:
    assert generate_name("web-", random.Random(1)).startswith("web-")


def test_a_long_base_is_cut_to_fit_a_dns_label() -> None:
    name = generate_name("x" * 80, random.Random(1))
    assert len(name) == 63
    assert name.startswith("x" * 58)


def test_uids_are_random_version_4_uuids() -> None:
    made = [random_uid() for _ in range(200)]
    assert len(set(made)) == 200
    for text in made:
        found = uuid.UUID(text)
        assert (str(found), found.version, found.variant) == (text, 4, uuid.RFC_4122)
    assert {text[19] for text in made} == set("89ab")
