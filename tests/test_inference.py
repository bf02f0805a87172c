import pytest
import torch

from dedier_laplace.inference import (
    classifier_features,
    classify,
    hidden_states,
    pool,
    readout_features,
)
from dedier_laplace.models import encoder_layers

DEPTH, WIDTH = 3, 16  # of the tiny models


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


@pytest.mark.parametrize("layer", range(1, DEPTH + 1))
def test_hidden_state_equals_that_of_a_full_pass(make, inputs, model_type, layer):
    model = make(model_type)
    with torch.no_grad():
        expected = model(**inputs, output_hidden_states=True).hidden_states[layer]
        found = hidden_states(model, inputs, [layer])[layer]
    assert found.shape == (3, 9, WIDTH)
    torch.testing.assert_close(found, expected)


def test_blocks_behind_the_layer_are_never_run(make, inputs, model_type):
    model, calls = make(model_type), []
    for number, block in enumerate(encoder_layers(model), start=1):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    model.classifier.register_forward_hook(lambda *_: calls.append("head"))
    hidden_states(model, inputs, [2])
    assert calls == [1, 2]
    model(**inputs)
    assert calls == [1, 2, 1, 2, 3, "head"]


def test_reading_a_hidden_state_leaves_no_hook_behind(make, inputs):
    model = make()
    expected = model(**inputs).logits
    hidden_states(model, inputs, [1])
    torch.testing.assert_close(model(**inputs).logits, expected)
    with pytest.raises(IndexError):
        hidden_states(model, {**inputs, "input_ids": inputs["input_ids"] + 10**6}, [1])
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
        split, lambda x: pool(hidden_states(model, x, [2])[2], x["attention_mask"], pooling)
    )
    found = readout_features(model, split, tokenizer, batch_size, [2], pooling)[2]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_forward_passes_have_no_dropout_and_leave_the_mode_as_it_was(
    make, split, tokenizer, training
):
    model = make().train(training)
    assert model.config.hidden_dropout_prob > 0
    for function in (
        lambda: classify(model, split, tokenizer, 4),
        lambda: readout_features(model, split, tokenizer, 4, [1], "first")[1],
    ):
        first = function()
        assert torch.equal(first, function())
        assert not first.requires_grad
        assert all(module.training == training for module in model.modules())


def test_logits_of_half_precision_models_are_float32(make, split, tokenizer):
    assert classify(make().to(torch.bfloat16), split, tokenizer, 4).dtype == torch.float32


def test_several_layers_of_one_pass_equal_one_layer_at_a_time(make, split, tokenizer):
    model = make()
    found = readout_features(model, split, tokenizer, 3, [1, 3], "mean")
    assert list(found) == [1, 3]
    for layer, states in found.items():
        alone = readout_features(model, split, tokenizer, 3, [layer], "mean")[layer]
        assert torch.equal(states, alone)


def test_last_layer_makes_the_logits_of_its_features(make, model_type, split, tokenizer):
    model = make(model_type)
    features = classifier_features(model, split, tokenizer, 3)
    assert features.shape == (len(split), WIDTH)
    last = model.get_submodule(
        "classifier.out_proj" if model_type in ("roberta", "electra") else "classifier"
    )
    torch.testing.assert_close(last(features), classify(model, split, tokenizer, 3))
