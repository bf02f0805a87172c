import string

import numpy as np
import pytest

from dedier_laplace.data.attributes import make_groups, negation_attribute


@pytest.mark.parametrize("text", ["No.", "he NEVER came", "There is nothing, he said", '"Nobody"!'])
def test_negation_word_is_found_whatever_case_and_punctuation(text):
    assert negation_attribute([text]).tolist() == [1]


@pytest.mark.parametrize("text", ["no-one came", "none", "he did not", "nobody's", "", "know"])
def test_words_that_only_contain_a_negation_word_do_not_count(text):
    assert negation_attribute([text]).tolist() == [0]


def test_only_spaces_separate_tokens():
    assert negation_attribute(["well\tno\tway", "well no way"]).tolist() == [0, 1]


def test_punctuation_never_changes_the_attribute():
    texts = ["there is no way", "there is a way"]
    noisy = [" ".join(word + string.punctuation for word in text.split(" ")) for text in texts]
    np.testing.assert_array_equal(negation_attribute(texts), negation_attribute(noisy))


def test_other_words_make_another_attribute():
    assert negation_attribute(["not so", "no way"], ["not"]).tolist() == [1, 0]


def test_attribute_of_no_texts_is_empty():
    assert negation_attribute([]).shape == (0,)


def test_group_is_label_and_attribute():
    groups = make_groups([1, 0, 1, 0], np.array([0, 1, 1, 1]), ["yes", "no"], "negation")
    assert [groups.labels[g] for g in groups.index] == ["no", "yes", "no", "yes"]
    assert [groups.attributes[g] for g in groups.index] == [0, 1, 1, 1]
    assert [groups.names[g] for g in groups.index] == [
        "no, no negation",
        "yes, negation",
        "no, negation",
        "yes, negation",
    ]


def test_sizes_count_every_sample_and_empty_groups():
    groups = make_groups([2, 2, 0], np.array([1, 1, 0]), ["a", "b", "c"], "x")
    assert groups.sizes.tolist() == [1, 0, 0, 0, 0, 2]
    assert groups.shares.sum() == pytest.approx(1)


def test_shares_of_no_samples_are_zero():
    groups = make_groups([], np.array([], dtype=int), ["a", "b"], "x")
    assert groups.shares.tolist() == [0, 0, 0, 0]
