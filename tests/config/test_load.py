import json

import pytest
import yaml
from pydantic import ValidationError

from dedier_laplace.config import Config, load_config, with_overrides
from dedier_laplace.config.explain import explained, json_schema, resolved
from dedier_laplace.config.load import training_values
from dedier_laplace.errors import UserError


@pytest.fixture
def load(tmp_path):
    """Loads a config from its YAML text."""

    def from_text(text, overrides=()):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides)

    return from_text


def message(load, text, overrides=()):
    with pytest.raises(UserError) as caught:
        load(text, overrides)
    return str(caught.value)


def test_empty_file_means_the_defaults(load):
    assert load("") == Config()


def test_no_file_means_the_embedded_default():
    assert load_config() == load_config("quickstart")


@pytest.mark.parametrize(
    ("text", "key", "choice"),
    [
        ("studnet: {}", "studnet", "'student'"),
        ("student: {metod: kd}", "student.metod", "'method'"),
        ("aux: {laplace: {hesian: kron}}", "aux.laplace.hesian", "'hessian'"),
        ("data: {files: {train: a.csv, tests: b.csv}}", "data.files.tests", "'test'"),
        (
            "data: {attributes: {negation: {words: [a], colum: premise}}}",
            "data.attributes.negation.colum",
            "'column'",
        ),
        ("teacher: {model: {config: {}, pretrain: {}}}", "teacher.model.pretrain", "'pretraining'"),
        ("students: [{nmae: a}]", "students[0].nmae", "'name'"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_one(load, text, key, choice):
    found = message(load, text)
    assert f"Unknown key {key};" in found
    assert f"did you mean {choice}?" in found


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("weights: {beta: fast}", "weights.beta is 'fast': "),
        ("weights: {beta: .nan}", "weights.beta is nan: "),
        ("seed: 1.5", "seed is 1.5: "),
        ("data: {labels: entailment}", "data.labels is 'entailment': "),
        ("teacher: 3", "teacher is 3: "),
        ("teacher: {fine_tune: maybe}", "teacher.fine_tune is 'maybe': "),
        ("student: {model: 3}", "student.model is 3: "),
        ("student: {training: 3}", "student.training is 3: "),
        ("data: {attributes: {a/b: {words: [a]}}}", "data.attributes.a/b is 'a/b': "),
        ("students: [{name: ../x}]", "students[0].name is '../x': "),
        ("aux: {laplace: {prior_precision: 0}}", "aux.laplace.prior_precision is 0: "),
        ("aux: {laplace: {prior_precision: margin}}", "aux.laplace.prior_precision is 'margin': "),
        ("data: {attributes: {'': {words: [a]}}}", "data.attributes"),
        ("aux: {layers: [true]}", "aux.layers[0]"),
        ("aux: {layers: some}", "aux.layers"),
        ("aux: {layers: [3, 3]}", "aux.layers"),
        ("aux: {laplace: {prior_precision: true}}", "aux.laplace.prior_precision"),
        ("aux: {laplace: {prior_precision: 1.0e39}}", "aux.laplace.prior_precision"),
        ("aux: {prediction_sets: {step: 1.0e-12}}", "aux.prediction_sets.step"),
    ],
)
def test_wrong_value_is_named_with_its_key(load, text, start):
    assert message(load, text).startswith(start)


@pytest.mark.parametrize(
    ("text", "key", "nearest_valid"),
    [
        ("weights: {beta: -1}", "weights.beta is -1", "0"),
        ("weights: {beta: 51}", "weights.beta is 51", "50"),
        ("student: {kd_weight: 1.5}", "student.kd_weight is 1.5", "1"),
        ("aux: {layers: [0]}", "aux.layers[0] is 0", "1"),
        ("seeds: [0, -3]", "seeds[1] is -3", "0"),
        ("data: {sample: {train: 0}}", "data.sample.train is 0", "1"),
    ],
)
def test_value_out_of_bounds_names_the_nearest_valid_one(load, text, key, nearest_valid):
    found = message(load, text)
    assert found.startswith(key)
    assert f"the nearest valid value is {nearest_valid}" in found


@pytest.mark.parametrize(
    "text", ["student: {temperature: 0}", "data: {carve: 0.5}", "aux: {layers: []}"]
)
def test_open_bounds_are_bounds_too(load, text):
    assert "should" in message(load, text)


@pytest.mark.parametrize(
    ("text", "start", "choice"),
    [
        ("weights: {reweight_on: wrogn}", "weights.reweight_on is 'wrogn'", "'wrong'"),
        ("aux: {laplace: {link: probits}}", "aux.laplace.link is 'probits'", "'probit'"),
        ("data: {corpus: mnli}", "data.corpus is 'mnli'", "'multinli'"),
        ("student: {select_by: lst}", "student.select_by is 'lst'", "'last'"),
        ("weights: {reweight_terms: [ce, kdd]}", "weights.reweight_terms[1] is 'kdd'", "'kd'"),
    ],
)
def test_wrong_choice_is_named_with_the_nearest_one(load, text, start, choice):
    found = message(load, text)
    assert found.startswith(start)
    assert f"did you mean {choice}?" in found


def test_choice_like_no_other_lists_them_all(load):
    found = message(load, "eval: {split: qqq}")
    assert found == "eval.split is 'qqq'; choose one of: validation, test"


@pytest.mark.parametrize("place", ["teacher", "student"])
def test_unknown_training_argument_is_named_with_the_nearest_one(load, place):
    found = message(load, f"{place}: {{training: {{learning_rat: 1.0e-5}}}}")
    assert found.startswith(f"{place}.training.learning_rat is no field of TrainingArguments")
    assert "'learning_rate'" in found


def test_training_argument_of_a_wrong_type_is_named_with_its_value(load):
    found = message(load, "student: {training: {num_train_epochs: many}}")
    assert found.startswith("student.training.num_train_epochs is 'many': ")


@pytest.mark.parametrize(
    ("name", "instead"),
    [("output_dir", "--output"), ("seed", "key seed"), ("eval_strategy", "select_by")],
)
def test_training_argument_decided_elsewhere_says_where(load, name, instead):
    found = message(load, f"teacher: {{training: {{{name}: x}}}}")
    assert found.startswith(f"teacher.training.{name} cannot be set")
    assert instead in found


def test_pretraining_is_checked_as_training_is(load):
    found = message(load, "student: {model: {config: {}, pretraining: {warmup: 3}}}")
    assert found.startswith("student.model.pretraining.warmup is no field")


def test_number_that_yaml_reads_as_text_is_a_number(load):
    config = load("weights: {beta: 2e0}\nstudent: {training: {learning_rate: 2e-5}}")
    assert config.weights.beta == 2.0
    assert training_values(config.student.training) == {"learning_rate": 2e-5}


def test_unquoted_no_in_a_list_of_words_is_the_word(load):
    config = load("data: {attributes: {negation: {words: [nobody, no, never]}}}")
    assert config.data.attributes["negation"].words == ["nobody", "no", "never"]


def test_marglik_or_a_number_is_a_prior_precision(load):
    for text, value in (("marglik", "marglik"), ("3", 3.0), ("1e-3", 1e-3)):
        config = load(f"aux: {{laplace: {{prior_precision: {text}}}}}")
        assert config.aux.laplace.prior_precision == value


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tx: 1"])
def test_bad_yaml_is_a_user_error_that_names_the_file(load, text):
    assert "config.yaml is not valid YAML" in message(load, text)


@pytest.mark.parametrize("text", ["- a\n- b", "just text", "3"])
def test_file_that_is_no_mapping_is_refused(load, text):
    assert "`key: value`" in message(load, text)


def test_missing_file_names_the_shipped_configs(tmp_path):
    with pytest.raises(UserError, match=r"absent\.yaml does not exist; .*quickstart"):
        load_config(tmp_path / "absent.yaml")


def test_file_that_is_no_text_is_a_user_error(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path / "a.yaml")


def test_overrides_are_yaml_at_any_depth(load):
    config = load(
        "weights: {alpha: 1.0, beta: 1.0}",
        ["weights.beta=2", "aux.layers=[6]", "data.files.train=a=b.csv", "eval.groups=negation"],
    )
    assert (config.weights.alpha, config.weights.beta) == (1.0, 2.0)
    assert config.aux.layers == [6]
    assert str(config.data.files.train) == "a=b.csv"


@pytest.mark.parametrize("bad", ["weights.beta", "=3", "weights.beta=[1"])
def test_bad_override_says_what_it_is(load, bad):
    assert repr(bad) in message(load, "", [bad])


def test_override_of_an_unknown_key_is_refused(load):
    assert "Unknown key weights.bta" in message(load, "", ["weights.bta=1"])


def test_later_override_wins(load):
    assert load("", ["seed=1", "seed=2"]).seed == 2


def test_groups_must_be_an_attribute(load):
    found = message(load, "eval: {groups: negatoin}")
    assert "'negatoin'" in found
    assert "data.attributes: negation" in found


@pytest.mark.parametrize("text", ["data: {corpus: files}", "data: {split: random}"])
def test_files_are_asked_for_where_they_are_needed(load, text):
    assert "data.files" in message(load, text)


def test_same_seed_twice_is_refused(load):
    assert message(load, "seeds: [1, 1]").startswith("seeds is [1, 1]: ")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ("student: {metod: kd}", "Unknown key student.metod"),
        ("weights: {beta: -1}", "weights.beta is -1"),
        ("aux: {layers: [0]}", "aux.layers[0] is 0"),
        ("student: {training: {epochs: 1}}", "student.training.epochs is no field"),
    ],
)
def test_overrides_of_a_student_are_checked_and_the_student_named(load, overrides, problem):
    found = message(load, f"students: [{{}}, {{{overrides}}}]")
    assert found.startswith(f"In students[1]: {problem}")


def test_overrides_replace_nested_values_and_keep_their_neighbours(load):
    config = load("aux: {laplace: {n_samples: 7}}\nstudent: {training: {num_train_epochs: 1}}")
    changed = with_overrides(
        config,
        {"aux": {"laplace": {"link": "map"}}, "student": {"training": {"learning_rate": 1e-3}}},
    )
    assert (changed.aux.laplace.link, changed.aux.laplace.n_samples) == ("map", 7)
    assert changed.student.training == {"num_train_epochs": 1, "learning_rate": 1e-3}
    assert config.aux.laplace.link == "mc"


def test_no_overrides_change_nothing():
    config = load_config()
    assert with_overrides(config, {}) == config


def test_overrides_are_checked():
    with pytest.raises(UserError, match=r"weights\.beta is -1"):
        with_overrides(Config(), {"weights": {"beta": -1}})


def test_config_cannot_be_changed():
    config = Config()
    for block, name in ((config, "seed"), (config.weights, "beta"), (config.aux.laplace, "link")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(block, name, getattr(block, name))


FULL = """
seed: 3
data:
  corpus: files
  files: {train: "a: b.csv"}
  attributes: {negation: {words: [no, "yes", "on"]}, other: {column: premise, words: ["#1"]}}
  sample: {train: 10}
teacher: {model: {config: {model_type: bert}, pretraining: {learning_rate: 1e-3}}}
student: {training: {learning_rate: 2e-5, lr_scheduler_type: linear}}
aux: {laplace: {prior_precision: 1.5}}
students: [{name: a, student: {method: kd}, weights: {beta: 1}}, {aux: {layers: [2]}}]
seeds: [0, 1]
"""


@pytest.mark.parametrize("text", ["", FULL])
@pytest.mark.parametrize("write", [resolved, explained])
def test_written_config_reads_back_as_itself(load, text, write):
    config = load(text)
    assert load(write(config)) == config


def test_embedded_default_is_explained_and_reads_back(load):
    config = load_config()
    assert load(explained(config)) == config
    assert load(resolved(config)) == config


def test_explanation_has_help_beside_every_field(load):
    lines = explained(Config()).splitlines()
    assert [line for line in lines if "  # " not in line] == []


def test_every_top_level_key_is_in_the_json_schema():
    schema = json.loads(json_schema())
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["additionalProperties"] is False


def test_resolved_config_is_plain_yaml(load):
    assert yaml.safe_load(resolved(load(FULL)))["data"]["files"]["train"] == "a: b.csv"


def test_seed_alone_is_what_run_uses():
    assert load_config("mnli", ["seed=7"]).seeds == [7]
    assert load_config("mnli", ["seed=7", "seeds=[1, 2]"]).seeds == [1, 2]


def test_files_beside_the_generated_corpus_are_refused():
    with pytest.raises(UserError, match=r"data\.corpus is 'generated'"):
        load_config(None, ["data.files.train=mine.csv"])
