from dedier_laplace.report.weights import weights_table


def training(*shifts):
    """A record of training; a shift an epoch, None where the readout was not fitted."""
    epochs = []
    for number, shift in enumerate(shifts, start=1):
        epoch = {"epoch": number}
        if shift is not None:
            told = {"mean_relative_change": shift, "rank_correlation": 1 - shift}
            epoch["laplace_against_map"] = told
        epochs.append(epoch)
    return {"epochs": epochs}


def test_means_over_seeds_by_epoch():
    table = weights_table(
        {"kd": [training(None)], "laplace": [training(0.1, 0.2), training(0.3, 0.2)]}
    )
    assert table.header == ["weights", "epoch 1", "epoch 2"]
    assert table.rows == [["laplace", "20.0% (0.800)", "20.0% (0.800)"]]


def test_epochs_without_a_readout_are_absent():
    table = weights_table({"a": [training(None, 0.5)], "b": [training(0.1, 0.1)]})
    assert table.rows[0] == ["a", "absent", "50.0% (0.500)"]


def test_constant_weights_have_no_rank_correlation():
    record = {
        "epochs": [
            {
                "epoch": 1,
                "laplace_against_map": {"mean_relative_change": 0.0, "rank_correlation": None},
            }
        ]
    }
    assert weights_table({"a": [record]}).rows == [["a", "0.0%"]]


def test_without_readouts_there_is_no_table():
    assert weights_table({"kd": [training(None)], "teacher": [{"name": "teacher"}]}) is None
