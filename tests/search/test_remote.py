"""Judging on a Ray cluster: the same as anywhere; what finds no place, dies, hangs or does not answer."""

import socket
import threading
import time
import warnings
from contextlib import contextmanager, suppress

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from benchmarks.surrogate import Surrogate, Unlucky
from onnxprune.errors import TrainingError, UsageError
from onnxprune.search import remote
from onnxprune.search.crew import Workers
from onnxprune.search.executors import InProcess
from onnxprune.search.remote import Cluster, Remote
from tests.search.test_crew import in_order, jobs
from tests.search.test_run import found, plain


@pytest.fixture(scope="module")
def cluster():
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # ray's own
        patch.setenv("RAY_raylet_start_wait_time_s", "300")
        ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    yield Cluster(cpus=0.5)
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_finds_the_same_bit_for_bit(cluster, tmp_path):
    alone = found(InProcess(Surrogate(noise=0.1)), 25)
    assert plain(found(Remote(Surrogate(noise=0.1), Workers(2), cluster), 25)) == plain(alone)
    maker = Unlucky(tmp_path, killed=(3, 11))
    assert plain(found(Remote(maker, Workers(2), cluster), 14)) == plain(found(InProcess(Surrogate()), 14))
    assert sorted(map(int, (tmp_path / "finished").read_text().split())) == list(range(14))


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_gives_up_what_hangs_twice(cluster, tmp_path):
    maker = Unlucky(tmp_path, killed=(3,), always=True, hang=True)
    evaluations = found(Remote(maker, Workers(2, timeout=2.0), cluster), 12)
    assert evaluations[3].failure == "the worker took more than 2.0 seconds, 2 times"
    assert not any(e.failure for e in evaluations if e.number != 3)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_a_cluster_that_does_not_answer(address, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(UsageError, match=f"no Ray cluster answers at {address}: .*refused"):
        Remote(Surrogate(), Workers(1), Cluster(address))
    with pytest.raises(UsageError, match="Ray address 'nowhere', expected host:port"):
        Remote(Surrogate(), Workers(1), Cluster("nowhere"))


@pytest.mark.filterwarnings("ignore")
def test_those_work_that_find_a_place(cluster, monkeypatch):
    monkeypatch.setattr(remote, "PLACE", 3.0)
    many = Remote(Surrogate(), Workers(5), Cluster())
    assert many.workers.count == 2, "the cluster has two CPUs"
    assert plain(found(many, 14)) == plain(found(InProcess(Surrogate()), 14))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", [{"gpus": 1}, {"cpus": 3}])
def test_a_cluster_without_a_place_says_what_it_has(cluster, monkeypatch, share):
    monkeypatch.setattr(remote, "PLACE", 1.0)
    asked = {"gpus": "1 CPUs and 1 GPUs", "cpus": "3 CPUs and 0 GPUs"}[next(iter(share))]
    with pytest.raises(UsageError, match=f"no place for a worker of {asked}: it has 2 CPUs and 0 GPUs, of which"):
        Remote(Surrogate(), Workers(1), Cluster(**share))


@pytest.mark.filterwarnings("ignore")
def test_a_full_cluster_says_so(cluster, monkeypatch):
    monkeypatch.setattr(remote, "PLACE", 1.0)
    taken = placement_group([{"CPU": 2}])
    assert taken.wait(30)
    with pytest.raises(UsageError, match="it has 2 CPUs and 0 GPUs, of which 0 CPUs and 0 GPUs free"):
        Remote(Surrogate(), Workers(1), Cluster())
    remove_placement_group(taken)


@pytest.mark.filterwarnings("ignore")
def test_a_session_that_was_open_stays_open(cluster):
    here = ray.get_runtime_context().gcs_address
    with Remote(Surrogate(), Workers(1), Cluster(here, cpus=0.5)):
        pass
    assert ray.is_initialized()
    with pytest.raises(UsageError, match=f"connected to the Ray cluster {here} already, expected 10.0.0.1:6379"):
        Remote(Surrogate(), Workers(1), Cluster("10.0.0.1:6379"))


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_lacks_a_package_says_so(cluster, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def maker():\n    raise NotImplementedError\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with pytest.raises(TrainingError, match=r"lost before they could judge; the first died: .*only_here"):
        found(Remote(only_here.maker, Workers(1), cluster), 10)


@pytest.mark.filterwarnings("ignore")
def test_an_actor_that_dies_between_batches_costs_nothing(cluster, tmp_path):
    maker = Unlucky(tmp_path)
    with Remote(maker, Workers(2), cluster) as executor:
        first = in_order(executor, jobs(range(3)))
        for member in executor._members:
            ray.kill(member.worker.actor)
        second = in_order(executor, jobs(range(3, 6)))
    assert [e.number for e in first + second] == list(range(6)) and not any(e.failure for e in first + second)
    assert sorted(map(int, (tmp_path / "finished").read_text().split())) == list(range(6))


@contextmanager
def listening(answer):
    """A port where something listens that is no Ray."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection, suppress(ConnectionResetError):
                connection.sendall(answer)
                connection.settimeout(30)
                while connection.recv(1024):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)


@pytest.mark.parametrize(
    ("answer", "why"), [(b"", "timed out"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak gRPC")]
)
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_what_listens_but_is_no_cluster_is_refused_in_seconds(monkeypatch, answer, why, scheme):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    start = time.monotonic()
    with listening(answer) as port, pytest.raises(UsageError, match=f"no Ray cluster answers at .*{port}: .*{why}"):
        Remote(Surrogate(), Workers(1), Cluster(f"{scheme}127.0.0.1:{port}"))
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("share", [{"gpus": -1}, {"cpus": 0}, {"gpus": 1.5}, {"cpus": float("nan")}])
def test_shares_of_a_cluster_that_make_no_sense(share):
    with pytest.raises(UsageError, match="expected more than 0 CPUs and whole numbers above 1"):
        Cluster(**share)
