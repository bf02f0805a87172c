import pytest
import yaml

from dedier_laplace import load_config
from dedier_laplace.report.model_card import model_card


def epoch(number, accuracy, **more):
    groups = {"e": accuracy, "n": None}
    found = {"accuracy": accuracy, "worst_group_accuracy": accuracy, "groups": groups}
    return {"epoch": number, "validation": found, **more}


@pytest.fixture
def config():
    return load_config("quickstart")


def test_front_matter_is_what_the_hub_reads(config):
    _, header, body = model_card("kd", config, {}, {}).split("---\n", 2)
    assert yaml.safe_load(header)["pipeline_tag"] == "text-classification"
    assert body.lstrip().startswith("# kd")


def test_the_epoch_kept_is_the_one_told(config):
    training = {"best_epoch": 1, "epochs": [epoch(1, 0.75), epoch(2, 0.5)]}
    card = model_card("kd", config, training, {})
    assert "after epoch 1" in card
    assert "| e | 75.0 |" in card
    assert "| n | absent |" in card
    assert "Laplace" not in card


def test_settings_are_those_given(config):
    card = model_card("jtt", config, {}, {"jtt": {"upweight": 4.0}})
    assert yaml.safe_load(card.split("```yaml\n")[1].split("```")[0]) == {"jtt": {"upweight": 4.0}}


def test_what_laplace_does_to_the_weights_is_told(config):
    shifts = [{"mean_relative_change": change, "rank_correlation": 0.9} for change in (0.012, 0.2)]
    epochs = [
        epoch(number, 0.5, weights={}, laplace_against_map=shift)
        for number, shift in enumerate(shifts, start=1)
    ]
    card = model_card("laplace", config, {"best_epoch": 2, "epochs": epochs}, {})
    assert "by 1.2%, 20.0% on average" in card
