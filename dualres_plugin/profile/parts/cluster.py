"""Profiling on a Ray cluster: workers hold the detector and write each batch where the driver finds it.

Numbers of batches travel to the workers and numbers of rows back; pixels do not. So the output folder and the images
must be there, under the same path, on every machine. A finished batch is a file, which is its checkpoint: whatever is
killed, worker, machine or driver, the next run starts from what is there.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm.auto import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.lock import locked
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.profile.build import Plan, ProfileSettings
from dualres_plugin.profile.data.records import Dataset
from dualres_plugin.profile.parts.batches import part_file, part_fits, read_checksums, write_part
from dualres_plugin.profile.parts.store import check_folder, finish
from dualres_plugin.profile.table import PARTS, Profile

logger = logging.getLogger("dualres")
TASK = 8  # batches that a worker gets at a time


@dataclass(frozen=True)
class Cluster:
    """Where the workers run.

    Attributes:
        address: of a running cluster as `ray.init` takes it, such as "auto"; None starts one here and stops it.
        concurrency: workers, each with a detector of its own.
        num_gpus: GPUs of each; 0.5 puts two workers on one.
        num_cpus: CPU cores of each.
    """

    address: str | None = None
    concurrency: int = 1
    num_gpus: float = 0.0
    num_cpus: float = 1.0


def build_on_ray(
    make_adapter: Callable[[], HostAdapter[Any]],
    dataset: Dataset,
    out: Path | str,
    settings: ProfileSettings,
    cluster: Cluster,
    *,
    detector_name: str = "",
    progress: bool = True,
) -> Profile:
    """As `build_profile`, by the workers of a Ray cluster.

    Args:
        make_adapter: loads the detector; called once here and once in every worker.
        dataset: the images.
        out: the profile's folder, on a file system that all machines share.
        settings: sizes, views, batch and the like.
        cluster: where the workers run.
        detector_name: for the description.
        progress: show a progress bar.

    Returns:
        The profile that one process would have made.

    Raises:
        DualResError: As `build_profile` does; also if Ray is not installed, there is no such cluster, or a worker
            fails.
    """
    ray = _ray()
    with locked(out) as folder:
        plan = Plan(make_adapter(), dataset, settings, detector_name)
        if check_folder(folder, plan.meta):
            return Profile.load(folder)
        plan.check()
        parts = plan.parts(folder)
        done = parts.check(range(len(plan.batches)), lambda i: plan.builder.keys(plan.batches[i]))
        todo = [i for i in range(len(plan.batches)) if i not in done]
        bar = tqdm(total=len(plan.batches), initial=len(done), unit="batch", desc="profile", disable=not progress)
        with bar, _Session(ray, cluster):
            given = (make_adapter, ray.put(dataset), settings, detector_name, plan.meta, folder.resolve())
            for number, rows in _results(ray, todo, given, cluster):
                if number not in done:  # a worker that died may have its task done twice
                    done.add(number)
                    parts.add(number, rows)
                    bar.update()
        parts.join()
        return finish(folder, plan.meta, parts.joined(), plan.origin)


class Worker:
    """Holds the detector, and runs the batches whose numbers it gets. Ray makes one for each actor.

    Args:
        make_adapter, dataset, settings, detector_name: as of `build_on_ray`; the data set by reference.
        meta: what the driver's detector and data set are described by.
        out: the profile's folder.
    """

    def __init__(
        self,
        make_adapter: Callable[[], HostAdapter[Any]],
        dataset: Any,
        settings: ProfileSettings,
        detector_name: str,
        meta: dict[str, Any],
        out: Path,
    ):
        self.plan = Plan(make_adapter(), _ray().get(dataset), settings, detector_name)
        if self.plan.meta != meta:
            raise DualResError("this worker's detector or images are not those of the driver: are the files the same?")
        self.plan.check()
        self.parts = out / PARTS
        self.notes = f"checksums-{uuid.uuid4().hex}.txt"

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        """Run some batches.

        Args:
            task: "batch", their numbers.

        Returns:
            "batch" and "rows", how many rows each has.
        """
        numbers = [int(number) for number in task["batch"]]
        return {"batch": numbers, "rows": [self._rows(number) for number in numbers]}

    def _rows(self, number: int) -> int:
        builder, jobs, path = self.plan.builder, self.plan.batches[number], part_file(self.parts, number)
        if path.is_file():  # of a worker that died before its task was done
            known = read_checksums(self.parts).get(path.name)
            if part_fits(path, builder.keys(jobs), known, builder.schema):
                return int(pq.read_metadata(path).num_rows)
        items, unreadable = builder.read(jobs)
        rows, rejected = builder.rows(items)
        write_part(path, rows, unreadable + rejected, builder.schema, self.notes)
        return len(rows)


def _results(ray: Any, todo: list[int], given: tuple[Any, ...], cluster: Cluster) -> Iterator[tuple[int, int]]:
    """Number and rows of each batch, as they are done."""
    if not todo:
        return
    tasks = ray.data.from_items([{"batch": i} for i in todo], override_num_blocks=-(-len(todo) // TASK))
    done = tasks.map_batches(
        Worker,
        fn_constructor_args=given,
        batch_size=None,
        concurrency=cluster.concurrency,
        num_cpus=None if cluster.num_gpus else cluster.num_cpus,
        num_gpus=cluster.num_gpus or None,
    )
    try:
        for row in done.iter_rows():
            yield int(row["batch"]), int(row["rows"])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        said = str(cause).strip().splitlines() or [type(cause).__name__]
        raise DualResError(
            f"a Ray worker failed ({said[-1]}). What is finished is kept: run the same command to resume."
        ) from None


class _Session:
    """A connection to a cluster, or a cluster of this machine that lives as long."""

    def __init__(self, ray: Any, cluster: Cluster):
        self._ray = ray
        self._own = not ray.is_initialized()
        if self._own:
            own = {} if cluster.address else {"num_cpus": _cores(cluster), "include_dashboard": False}
            try:
                ray.init(address=cluster.address or "local", log_to_driver=False, logging_level="ERROR", **own)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise DualResError(f"there is no Ray cluster at '{cluster.address}' ({error}).") from None
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._ray.shutdown()


def _cores(cluster: Cluster) -> int:
    return max(1, round(cluster.concurrency * cluster.num_cpus + 1))  # and one for Ray Data's own tasks


def _ray() -> Any:
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError:
        raise DualResError('Ray is not installed: pip install "dualres-plugin[ray]".') from None
    return ray
