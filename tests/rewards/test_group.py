"""Totals and advantages, as TRL computes them."""

import warnings

import pytest

from medgrpo.rewards import Score, advantages, total


def test_a_total_leaves_out_what_does_not_apply() -> None:
    assert total([Score("a", 1.0, 2.0, ""), Score("b", None, 5.0, ""), Score("c", -1.0, 0.25, "")]) == 1.75
    assert total([Score("a", None, 1.0, "")]) is None
    assert total([]) is None


def test_advantages_of_a_group() -> None:
    assert advantages([3.0, 1.0, 1.0, 1.0]) == pytest.approx([1.49985, -0.49995, -0.49995, -0.49995], abs=1e-5)
    assert advantages([3.0, 1.0], "none") == [1.0, -1.0]
    assert advantages([3.0, 1.0], "batch") == advantages([3.0, 1.0])
    assert advantages([2.0, 2.0, 2.0]) == [0.0, 0.0, 0.0]


def test_a_completion_without_a_total_takes_no_part() -> None:
    with_gap = advantages([3.0, None, 1.0])
    assert with_gap[1] == 0.0
    assert [with_gap[0], with_gap[2]] == advantages([3.0, 1.0])
    assert advantages([None, 2.0]) == [0.0, 0.0]
    assert advantages([]) == []


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="'group', 'batch' or 'none'"):
        advantages([1.0], "std")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    "totals", [[3.25, 0.75, 2.75, 0.0], [1.0, 1.0, None, 0.5], [2.0, None, None, None], [0.1, 0.1, 0.1, 0.1]]
)
def test_the_arithmetic_is_trl_s(totals: list[float | None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
        utils = pytest.importorskip("trl.trainer.utils")
    rewards = torch.tensor([float("nan") if value is None else value for value in totals]).view(1, -1)
    theirs = torch.nan_to_num(
        (rewards - torch.nanmean(rewards, dim=1)) / (utils.nanstd(rewards, dim=1) + 1e-4), nan=0.0
    )
    assert advantages(totals) == pytest.approx(theirs[0].tolist(), abs=1e-4)
