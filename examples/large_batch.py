"""The gradient of a large batch on several processes, or machines: with Dask, or with Ray Data.

    python examples/large_batch.py dask
    python examples/large_batch.py ray

A kernel goes to the workers by the name and the hash of its module: each opens its own file, and refuses another one.
"""

import sys

import numpy as np
import tiaot


def arrays(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x (rows, 8), W (4, 8), b (4,) and v (rows, 4)."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape, np.float32) for shape in ((rows, 8), (4, 8), (4,), (rows, 4)))


def pull_back(kernel: tiaot.Kernel, x: np.ndarray, W: np.ndarray, b: np.ndarray, v: np.ndarray) -> np.ndarray:
    """J^T v of one block. What came over a network may be strided or lie at any address: only that is copied."""
    x, v = (np.require(each, requirements=["C", "A"]) for each in (x, v))
    return kernel.vjp(x, W, b, v, num_threads=1)  # one thread a call: the workers are the parallelism


def with_dask(x: np.ndarray, W: np.ndarray, b: np.ndarray, v: np.ndarray, rows: int) -> np.ndarray:
    """J^T v, (B, n), in blocks of `rows` samples, on the cluster of the current dask.distributed.Client."""
    import dask.array

    kernel = tiaot.load("dense_tanh")
    blocks = (dask.array.from_array(each, chunks=(rows, -1)) for each in (x, v))
    gradient = dask.array.map_blocks(
        lambda x, v: pull_back(kernel, x, W, b, v), *blocks, chunks=(rows, x.shape[1]), meta=np.empty((0, 0), x.dtype)
    )
    return gradient.compute()


def with_ray(x: np.ndarray, W: np.ndarray, b: np.ndarray, v: np.ndarray, rows: int) -> np.ndarray:
    """The same on the cluster that ray.init has joined."""
    import ray.data

    kernel = tiaot.load("dense_tanh")
    n = x.shape[1]

    def block(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"gx": pull_back(kernel, batch["data"][:, :n], W, b, batch["data"][:, n:])}

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    both = np.concatenate([x, v], axis=1)
    data = ray.data.from_numpy([both[start : start + rows] for start in range(0, len(both), rows)])
    found = data.map_batches(block, batch_size=rows).iter_batches(batch_size=None)
    return np.concatenate([batch["gx"] for batch in found])


def main(tool: str) -> None:
    x, W, b, v = arrays(200_000)
    if tool == "dask":
        from dask.distributed import Client, LocalCluster

        # On many machines: Client("scheduler:8786"), the address of a `dask scheduler`.
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
            gradient = with_dask(x, W, b, v, rows=25_000)
    elif tool == "ray":
        import ray

        # On many machines: ray.init("auto"), on one where `ray start` has joined the cluster.
        ray.init(num_cpus=2, include_dashboard=False)
        gradient = with_ray(x, W, b, v, rows=25_000)
        ray.shutdown()
    else:
        raise SystemExit(f"expected dask or ray, got {tool!r}")
    expected = tiaot.load("dense_tanh").vjp(x, W, b, v)
    print(f"{tool}: {len(x):,} samples, the same bits as in one process: {np.array_equal(gradient, expected)}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["dask"])
