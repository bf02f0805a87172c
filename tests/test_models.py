import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from dedier_laplace.errors import UserError
from dedier_laplace.models import (
    accepted_inputs,
    chosen_layers,
    classifier_from_config,
    encoder_layers,
    final_linear,
    label_order,
    load_classifier,
    load_tokenizer,
    load_trained,
)

LABELS = ["entailment", "neutral", "contradiction"]
DEPTH = 3  # of the tiny models
USUAL = {
    "num_hidden_layers": DEPTH,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "max_position_embeddings": 70,
}


def test_label_order_goes_by_name_in_any_case(make):
    model = make()
    model.config.id2label = {0: "CONTRADICTION", 1: "Entailment", 2: "neutral"}
    assert label_order(model, LABELS, "x") == [1, 2, 0]
    logits = torch.tensor([[10.0, 20.0, 30.0]])  # contradiction, entailment, neutral
    assert logits[:, label_order(model, LABELS, "x")].tolist() == [[20, 30, 10]]


@pytest.mark.parametrize("names", [["LABEL_0", "LABEL_1", "LABEL_2"], LABELS[:2], [*LABELS, "x"]])
def test_other_labels_are_refused_by_name(make, names):
    model = make()
    model.config.id2label = dict(enumerate(names))
    with pytest.raises(UserError, match="my-model knows the labels"):
        label_order(model, LABELS, "my-model")


@pytest.mark.parametrize("layer", [0, DEPTH + 1])
def test_layer_the_model_does_not_have_names_its_depth(make, layer):
    with pytest.raises(UserError, match=f"layer {layer}, but the student has {DEPTH} layers"):
        chosen_layers([1, layer], len(encoder_layers(make())))


def test_layers_of_the_model_are_accepted_and_all_means_each(make, model_type):
    depth = len(encoder_layers(make(model_type)))
    assert chosen_layers([1, DEPTH], depth) == [1, DEPTH]
    assert chosen_layers("all", depth) == [1, 2, 3]


def test_final_linear_is_the_one_that_makes_the_logits(make, model_type, inputs):
    model = make(model_type)
    parent, name = final_linear(model)
    with torch.no_grad():
        getattr(parent, name).bias += torch.tensor([1.0, 2.0, 3.0])
        shifted = model(**inputs).logits
        getattr(parent, name).bias -= torch.tensor([1.0, 2.0, 3.0])
    expected = model(**inputs).logits + torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(shifted, expected)


def test_model_that_ends_in_no_linear_layer_of_its_labels_is_refused(make):
    model = make()
    model.classifier = torch.nn.Identity()
    with pytest.raises(UserError, match="cannot be reused"):
        final_linear(model)


def test_model_from_a_config_fits_tokenizer_and_labels(make, model_type, tokenizer):
    model = make(model_type)
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {name: i for i, name in enumerate(LABELS)}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "model_type is 'None'"),
        ({"model_type": "brt"}, "'brt'; did you mean 'bert'"),
        ({"model_type": "bert", "num_hidden_layer": 3}, "did you mean 'num_hidden_layers'"),
        ({"model_type": "bert", **USUAL, "num_attention_heads": 3}, "makes no model"),
    ],
)
def test_config_that_makes_no_model_is_a_user_error(tokenizer, fields, words):
    with pytest.raises(UserError, match=words):
        classifier_from_config(fields, tokenizer, LABELS)


def test_accepted_inputs_tell_token_types_apart(make):
    assert "token_type_ids" in accepted_inputs(make("bert"))
    assert "token_type_ids" not in accepted_inputs(make("distilbert"))


def test_saved_model_and_tokenizer_are_loaded_as_they_were(make, tokenizer, inputs, tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_trained(tmp_path)
    assert label_order(loaded, LABELS, tmp_path) == [0, 1, 2]
    torch.testing.assert_close(loaded.eval()(**inputs).logits, model(**inputs).logits)
    assert load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()


def test_encoder_without_a_head_gets_one_for_the_labels(make, tmp_path):
    encoder = make().base_model
    encoder.save_pretrained(tmp_path)
    model = load_classifier(tmp_path, LABELS)
    assert model.classifier.out_features == 3
    assert model.config.id2label == dict(enumerate(LABELS))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(model.base_model.state_dict()[name], tensor), name


def test_head_for_another_number_of_labels_is_refused(make, tmp_path):
    make().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="can be loaded from the folder"):
        load_classifier(tmp_path, LABELS[:2])


def test_missing_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="absent does not exist"):
        load_trained(tmp_path / "absent")
    for load in (load_tokenizer, lambda source: load_classifier(source, LABELS)):
        with pytest.raises(UserError, match="absent"):
            load(tmp_path / "absent")


def test_empty_folder_is_a_user_error(tmp_path):
    for load in (load_tokenizer, load_trained, lambda source: load_classifier(source, LABELS)):
        with pytest.raises(UserError, match="can be loaded from the folder"):
            load(tmp_path)


def test_pickled_weights_are_refused(make, tmp_path):
    model = make()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    for load in (load_trained, lambda source: load_classifier(source, LABELS)):
        with pytest.raises(UserError, match="can be loaded from the folder"):
            load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no safetensors at all"])
def test_damaged_weights_are_a_user_error(make, tmp_path, content):
    make().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="can be loaded from the folder"):
        load_trained(tmp_path)


def test_depth_is_told_by_the_models_own_config():
    config = AutoConfig.for_model("bert", **(USUAL | {"num_hidden_layers": 5}), vocab_size=30)
    model = AutoModelForSequenceClassification.from_config(config)
    assert len(encoder_layers(model)) == 5
