import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSequenceClassification

from dedier_laplace.data.generated import word_tokenizer
from dedier_laplace.data.tokens import tokenize
from dedier_laplace.errors import UserError
from dedier_laplace.models import (
    accepted_inputs,
    classifier_from_config,
    classify,
    encoder_layers,
    hidden_state,
    label_order,
    load_classifier,
    load_tokenizer,
    load_trained,
    pool,
    readout_features,
    refuse_layer_beyond,
)

LABELS = ["entailment", "neutral", "contradiction"]
DEPTH, WIDTH = 3, 16
USUAL = {
    "num_hidden_layers": DEPTH,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "max_position_embeddings": 70,
}
CONFIGS = {
    "bert": USUAL,
    "roberta": USUAL,
    "electra": USUAL | {"embedding_size": 8},
    "distilbert": {
        "n_layers": DEPTH,
        "dim": WIDTH,
        "hidden_dim": 32,
        "n_heads": 2,
        "max_position_embeddings": 70,
    },
}


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


@pytest.fixture
def make(tokenizer):
    """A tiny model with random weights."""

    def from_type(model_type="bert"):
        torch.manual_seed(0)
        fields = {"model_type": model_type, **CONFIGS[model_type]}
        return classifier_from_config(fields, tokenizer, LABELS).eval()

    return from_type


@pytest.fixture
def inputs(tokenizer):
    """Three samples, the last two padded."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, len(tokenizer), (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    for row, length in enumerate((9, 6, 4)):
        ids[row, length:], mask[row, length:] = tokenizer.pad_token_id, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def split(tokenizer):
    """Tokenized pairs of unequal lengths, in no order of length."""
    special = set(tokenizer.all_special_tokens)
    words = [word for word in sorted(tokenizer.get_vocab()) if word not in special]
    sizes = [3, 9, 1, 6, 2, 9, 4]
    rows = Dataset.from_dict(
        {
            "premise": [" ".join(words[i : i + n]) for i, n in enumerate(sizes)],
            "hypothesis": [words[-i - 1] for i in range(len(sizes))],
            "label": [i % 3 for i in range(len(sizes))],
        }
    )
    return tokenize(rows, tokenizer, 64, {"input_ids", "attention_mask"})


def each_alone(split, function):
    """`function` of every sample, without batches or padding."""
    rows = [split[i] for i in range(len(split))]
    with torch.no_grad():
        return torch.cat(
            [
                function({key: torch.tensor([row[key]]) for key in ("input_ids", "attention_mask")})
                for row in rows
            ]
        )


@pytest.mark.parametrize("model_type", CONFIGS)
@pytest.mark.parametrize("layer", range(1, DEPTH + 1))
def test_hidden_state_equals_that_of_a_full_pass(make, inputs, model_type, layer):
    model = make(model_type)
    with torch.no_grad():
        expected = model(**inputs, output_hidden_states=True).hidden_states[layer]
        found = hidden_state(model, inputs, layer)
    assert found.shape == (3, 9, WIDTH)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_blocks_behind_the_layer_are_never_run(make, inputs, model_type):
    model, calls = make(model_type), []
    for number, block in enumerate(encoder_layers(model), start=1):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    model.classifier.register_forward_hook(lambda *_: calls.append("head"))
    hidden_state(model, inputs, 2)
    assert calls == [1, 2]
    model(**inputs)
    assert calls == [1, 2, 1, 2, 3, "head"]


def test_reading_a_hidden_state_leaves_no_hook_behind(make, inputs):
    model = make()
    expected = model(**inputs).logits
    hidden_state(model, inputs, 1)
    torch.testing.assert_close(model(**inputs).logits, expected)
    with pytest.raises(IndexError):
        hidden_state(model, {**inputs, "input_ids": inputs["input_ids"] + 10**6}, 1)
    assert all(not block._forward_hooks for block in encoder_layers(model))


def test_mean_pooling_ignores_padding():
    state = torch.randn(2, 4, 3)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    found = pool(state, mask, "mean")
    torch.testing.assert_close(found, torch.stack([state[0].mean(0), state[1, :2].mean(0)]))
    state[1, 2:] = 1e6
    torch.testing.assert_close(pool(state, mask, "mean"), found)


def test_first_pooling_takes_the_first_token():
    state = torch.randn(2, 4, 3)
    assert torch.equal(pool(state, torch.ones(2, 4), "first"), state[:, 0])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_logits_keep_the_samples_order_whatever_the_batch_size(make, split, tokenizer, batch_size):
    model = make()
    expected = each_alone(split, lambda x: model(**x).logits)
    found = classify(model, split, tokenizer, batch_size)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert len(found.unique(dim=0)) == len(split)


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_features_keep_the_samples_order_whatever_the_batch_size(
    make, split, tokenizer, batch_size, pooling
):
    model = make("distilbert")
    expected = each_alone(
        split, lambda x: pool(hidden_state(model, x, 2), x["attention_mask"], pooling)
    )
    found = readout_features(model, split, tokenizer, batch_size, 2, pooling)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_forward_passes_have_no_dropout_and_leave_the_mode_as_it_was(
    make, split, tokenizer, training
):
    model = make().train(training)
    assert model.config.hidden_dropout_prob > 0
    for function in (
        lambda: classify(model, split, tokenizer, 4),
        lambda: readout_features(model, split, tokenizer, 4, 1, "first"),
    ):
        first = function()
        assert torch.equal(first, function())
        assert not first.requires_grad
        assert all(module.training == training for module in model.modules())


def test_logits_of_half_precision_models_are_float32(make, split, tokenizer):
    assert classify(make().to(torch.bfloat16), split, tokenizer, 4).dtype == torch.float32


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
        refuse_layer_beyond(len(encoder_layers(make())), layer)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_layer_of_the_model_is_accepted(make, model_type):
    for layer in range(1, DEPTH + 1):
        refuse_layer_beyond(len(encoder_layers(make(model_type))), layer)


def test_model_from_a_config_fits_tokenizer_and_labels(make, tokenizer):
    for model_type in CONFIGS:
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
