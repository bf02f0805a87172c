import itertools

import numpy as np
import pytest

from dedier_laplace.data import generated
from dedier_laplace.data.attributes import negation_attribute
from dedier_laplace.data.generated import (
    LABELS,
    NEGATION_FRAMES,
    PLAIN_FRAMES,
    PairGenerator,
    relation,
    word_tokenizer,
)

N = 600


@pytest.fixture(scope="module")
def pairs():
    return list(PairGenerator(0).natural(N, negation_rate=0.5, minority_rate=0.1))


def negated(pairs):
    return negation_attribute(pair.hypothesis for pair in pairs)


def test_same_seed_gives_the_same_pairs(pairs):
    assert list(PairGenerator(0).natural(N, 0.5, 0.1)) == pairs
    assert list(PairGenerator(1).natural(N, 0.5, 0.1)) != pairs


def test_no_pair_comes_twice(pairs):
    assert len({(pair.premise, pair.hypothesis) for pair in pairs}) == N


def test_one_generators_splits_are_disjoint():
    generator = PairGenerator(0)
    first = generator.balanced(20)
    second = list(generator.natural(200, 0.5, 0.1))
    assert not {(p.premise, p.hypothesis) for p in first} & {
        (p.premise, p.hypothesis) for p in second
    }


def test_balanced_pairs_fill_every_group_alike_and_are_shuffled():
    pairs = PairGenerator(0).balanced(15)
    groups = [(pair.label, int(value)) for pair, value in zip(pairs, negated(pairs), strict=True)]
    assert {g: groups.count(g) for g in itertools.product(LABELS, (0, 1))} == dict.fromkeys(
        itertools.product(LABELS, (0, 1)), 15
    )
    assert groups[:15] != [groups[0]] * 15


@pytest.mark.parametrize(("rate", "minority"), [(0.5, 0.1), (0.2, 0.6), (1.0, 0.0)])
def test_negation_follows_the_rates(rate, minority):
    pairs = list(PairGenerator(3).natural(N, rate, minority))
    attribute = negated(pairs)
    contradiction = np.array([pair.label == "contradiction" for pair in pairs])
    for members, expected in ((contradiction, rate), (~contradiction, minority)):
        deviation = (expected * (1 - expected) / members.sum()) ** 0.5
        assert abs(attribute[members].mean() - expected) <= 4 * deviation


def test_labels_are_about_uniform(pairs):
    for label in LABELS:
        share = sum(pair.label == label for pair in pairs) / N
        assert abs(share - 1 / 3) < 4 * (2 / 9 / N) ** 0.5


def test_premises_hold_no_negation_word(pairs):
    assert negation_attribute(pair.premise for pair in pairs).sum() == 0


def test_every_negation_frame_is_negated_and_no_plain_one():
    assert negation_attribute(NEGATION_FRAMES).all()
    assert not negation_attribute(PLAIN_FRAMES).any()


def test_tokenizer_knows_every_word(pairs):
    tokenizer = word_tokenizer()
    texts = [text for pair in pairs for text in (pair.premise, pair.hypothesis)]
    assert all(tokenizer.unk_token_id not in ids for ids in tokenizer(texts)["input_ids"])


def first_branch(taxonomy, number=0):
    """A hypernym and two of its hyponyms."""
    branches = [(key, *below[:2]) for key, below in taxonomy.items() if len(below) > 1]
    return branches[number]


@pytest.fixture
def slots():
    """A premise with every slot filled, and a function that replaces slots by name."""
    quantity, noun, deed, place = (
        first_branch(taxonomy)[1]
        for taxonomy in (generated.QUANTITIES, generated.NOUNS, generated.DEEDS, generated.PLACES)
    )
    other_noun, time = first_branch(generated.NOUNS, 1)[1], next(iter(generated.TIMES))
    base = (quantity, noun, deed, other_noun, place, time)

    def make(**changes):
        found = list(base)
        for name, word in changes.items():
            found[getattr(generated, name.upper())] = word
        return tuple(found)

    return make


TAXONOMY = {  # by slot, where a word may have hyponyms
    "quantity": generated.QUANTITIES,
    "subject": generated.NOUNS,
    "verb": generated.DEEDS,
    "place": generated.PLACES,
}


def test_a_text_entails_itself(slots):
    assert relation(slots(), slots()) == "entailment"


@pytest.mark.parametrize("slot", TAXONOMY)
def test_hypernym_is_entailed_and_hyponym_is_not(slots, slot):
    hypernym, hyponym, _ = first_branch(TAXONOMY[slot])
    assert relation(slots(**{slot: hyponym}), slots(**{slot: hypernym})) == "entailment"
    assert relation(slots(**{slot: hypernym}), slots(**{slot: hyponym})) == "neutral"


@pytest.mark.parametrize("slot", TAXONOMY)
def test_sisters_under_one_hypernym_contradict(slots, slot):
    _, one, other = first_branch(TAXONOMY[slot])
    assert relation(slots(**{slot: one}), slots(**{slot: other})) == "contradiction"


@pytest.mark.parametrize("slot", ["subject", "place"])
def test_disjoint_branches_contradict(slots, slot):
    one, other = (first_branch(TAXONOMY[slot], number)[1] for number in (0, 1))
    assert relation(slots(**{slot: one}), slots(**{slot: other})) == "contradiction"


@pytest.mark.parametrize("slot", ["place", "time"])
def test_dropping_a_detail_is_entailed_and_adding_one_is_neutral(slots, slot):
    assert relation(slots(), slots(**{slot: ""})) == "entailment"
    assert relation(slots(**{slot: ""}), slots()) == "neutral"


def test_contradiction_wins_over_an_added_detail(slots):
    _, one, other = first_branch(generated.QUANTITIES)
    assert relation(slots(quantity=one, place=""), slots(quantity=other)) == "contradiction"


def test_swapped_roles_are_neutral(slots):
    premise = slots()
    subject, other = premise[generated.SUBJECT], premise[generated.OBJECT]
    assert relation(premise, slots(subject=other, object=subject)) == "neutral"
