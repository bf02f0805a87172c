import pytest
import torch
from torch.nn import functional as F

from dedier_laplace import GroupDRO


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 3, generator=generator, requires_grad=True)
    labels = torch.randint(3, (16,), generator=generator)
    return logits, labels, torch.arange(16) % 3  # of four groups, one absent


def group_means(logits, labels, groups):
    losses = F.cross_entropy(logits, labels, reduction="none")
    return [
        losses[groups == g].mean() if (groups == g).any() else torch.tensor(0.0) for g in range(4)
    ]


def test_without_a_step_size_every_group_counts_the_same(batch):
    dro = GroupDRO(4, eta=0)
    torch.testing.assert_close(dro.loss(*batch), torch.stack(group_means(*batch)).sum() / 4)
    assert dro.q.tolist() == [0.25] * 4


def test_q_follows_the_worst_group_and_stays_a_distribution(batch):
    logits, labels, groups = batch
    logits = torch.where((groups == 1).unsqueeze(1), -8 * F.one_hot(labels, 3), logits)
    dro = GroupDRO(4, eta=0.1)
    for _ in range(50):
        dro.loss(logits, labels, groups)
    assert int(dro.q.argmax()) == 1
    assert float(dro.q[1]) > 0.9
    assert float(dro.q.sum()) == pytest.approx(1)


def test_the_new_q_weighs_the_same_steps_losses(batch):
    means = torch.stack(group_means(*batch)).detach()
    expected = torch.softmax(0.5 * means, 0)  # q was uniform
    loss = GroupDRO(4, eta=0.5).loss(*batch)
    torch.testing.assert_close(loss.detach(), expected @ means)


def test_gradient_is_that_of_the_weighted_group_losses(batch):
    logits, labels, groups = batch
    dro = GroupDRO(4, eta=0.3)
    dro.loss(logits, labels, groups).backward()
    found, logits.grad = logits.grad, None
    (torch.stack(group_means(*batch)) @ dro.q).backward()
    torch.testing.assert_close(found, logits.grad)
    assert not dro.q.requires_grad


def test_adjustment_favours_small_groups(batch):
    sizes = [4, 100, 100, 100]
    logits, labels, groups = batch
    same = torch.zeros_like(logits)
    plain, adjusted = GroupDRO(4, 0.1), GroupDRO(4, 0.1, adjustment=2.0, group_sizes=sizes)
    plain.loss(same, labels, groups)
    loss = adjusted.loss(same, labels, groups)
    assert float(adjusted.q[0] / adjusted.q[1]) == pytest.approx(
        float(plain.q[0] / plain.q[1]) * torch.tensor(0.1 * (2 / 2 - 2 / 10)).exp().item(), rel=1e-5
    )
    expected = adjusted.q @ (torch.tensor([1.0, 1, 1, 0]) * torch.log(torch.tensor(3.0)))
    expected = expected + adjusted.q @ (2 / torch.tensor(sizes).sqrt())
    torch.testing.assert_close(loss.detach(), expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_groups": 0},
        {"n_groups": 2, "eta": -1},
        {"n_groups": 2, "adjustment": -1},
        {"n_groups": 2, "adjustment": 1},
        {"n_groups": 2, "adjustment": 1, "group_sizes": [1, 0]},
        {"n_groups": 2, "group_sizes": [1, 2, 3]},
    ],
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(ValueError, match=r"must be|needs the size"):
        GroupDRO(**arguments)


def test_group_without_training_samples_counts_as_loss_zero(batch):
    dro = GroupDRO(4, eta=0.5, group_sizes=[5, 0, 3, 8])
    assert dro.loss(*batch).isfinite()
    assert dro.q.isfinite().all()
