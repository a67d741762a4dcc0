"""Two processes train like one with the double batch, stop together, and never drift apart silently."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import two_ranks
from small_training import Updates, fit, people

from lit_restore.errors import UserError
from lit_restore.training import ranks

Results = dict[str, list[dict[str, Any]]]
pytestmark = pytest.mark.timeout(900)
SCENARIOS = ("accumulate1", "accumulate2", "photo", "weight")


@pytest.fixture(scope="module")
def results(tiny_base: Path, people_cache: Path, face_network: Path, tmp_path_factory) -> Results:
    """Scenario -> what each rank kept."""
    people(people_cache).prepare_data()
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        environment = os.environ | {name: str(value) for name, value in environment.items()}
        environment["PYTHONPATH"] = str(Path(__file__).parent)
        command = [sys.executable, two_ranks.__file__, *map(str, (tiny_base, people_cache, face_network, folder))]
        log = open(folder / f"log{rank}", "w")  # noqa: SIM115, closed with the process
        processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    codes = [process.wait(timeout=800) for process in processes]
    assert codes == [0, 0], "\n".join((folder / f"log{rank}").read_text()[-3000:] for rank in range(2))
    return {
        name: [torch.load(folder / f"{name}_{rank}.pt", weights_only=True) for rank in range(2)] for name in SCENARIOS
    } | {"folder": folder}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_both_end_with_the_same_bits(results: Results, accumulate: int) -> None:
    first, second = (values["state"] for values in results[f"accumulate{accumulate}"])
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    length = two_ranks.ITERATIONS[accumulate]
    assert [values["counts"] for values in results[f"accumulate{accumulate}"]] == [(length, length)] * 2


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_and_weights_are_those_of_one_process_with_the_whole_batch(
    results: Results, accumulate: int, tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path
) -> None:
    """Photos with and without references are mixed, so the ranks use different parameters; and a validation comes in
    the middle of an update."""
    module, mine, theirs = two_ranks.player(tiny_base, face_network, 1), Updates(0), Updates(1)
    module.max_iterations = two_ranks.ITERATIONS[accumulate]
    keys, begin = two_ranks.Keys(), {name: tensor.clone() for name, tensor in module.state_dict().items()}
    data = people(people_cache, **(two_ranks.DATA | {"batch_size": 2 * accumulate}))
    losses = fit(tmp_path, module, data, mine, theirs, keys)
    for rank, values in enumerate(results[f"accumulate{accumulate}"]):
        assert values["losses"] == pytest.approx(losses, rel=1e-4)
        assert values["train"] == keys.train[rank::2]  # no photo twice
        for player, updates in enumerate((mine, theirs)):
            assert len(values["gradients"][player]) == len(updates.gradients[0])
            for found, expected in zip(values["gradients"][player], updates.gradients[0], strict=True):
                torch.testing.assert_close(found, expected, atol=5e-6, rtol=2e-3)
        # Adam's first steps are signs, so a gradient near zero may turn a weight; as a whole the moves agree. How far
        # the power iteration got depends on the number of batches.
        names = [name for name in begin if not name.endswith(("weight_u", "weight_v"))]
        ends = (module.state_dict(), values["state"])
        moves = [torch.cat([(end[name] - begin[name]).flatten() for name in names]) for end in ends]
        assert torch.linalg.vector_norm(moves[0] - moves[1]) < 0.02 * torch.linalg.vector_norm(moves[0])


def test_every_validation_photo_is_seen_once_per_validation(results: Results) -> None:
    """Three photos on two ranks: unequal shares, and nobody waits."""
    first, second = (values["val"] for values in results["accumulate1"])
    assert not set(first) & set(second)
    assert len(set(first)) + len(set(second)) == 3


def test_a_nan_on_one_rank_stops_both_with_the_same_words(results: Results) -> None:
    first, second = results["photo"]
    assert first["message"] == second["message"]
    assert first["message"].startswith("the loss is not finite: iteration 2, photos ")
    folder = results["folder"] / "photo" / "non_finite"
    assert [path.name for path in folder.iterdir()] == ["iteration_000002_rank_1"]
    assert str(folder / "iteration_000002_rank_1") in first["message"]
    assert all(torch.equal(tensor, second["state"][name]) for name, tensor in first["state"].items())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in first["state"].values())


def test_weights_that_drift_apart_by_one_bit_stop_both(results: Results) -> None:
    for values in results["weight"]:
        assert values["message"].startswith("the weights of the processes have drifted apart: iteration 3;")
        assert values["iteration"] == 3


def test_strategies_that_spread_the_model_are_refused(tiny_base: Path, face_network: Path) -> None:
    class Sharded:
        strategy = object()

    with pytest.raises(UserError, match=r"trainer\.strategy; expected auto, or ddp for several devices"):
        ranks.prepare(two_ranks.player(tiny_base, face_network, 1), Sharded())
