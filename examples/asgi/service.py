"""A service in Python: an ASGI application under uvicorn, in workers that are forked, whose weights change under load.

    python service.py WEIGHTS.npz [--port 8000] [--workers 2]

POST / with {"x": [[...], ...]} answers {"y": [[...], ...], "version": ...}, y = tanh(W x + b) by the kernel dense_tanh.
The module is opened and the weights are read before the workers are forked, which share them. To put in other weights,
replace the file and send SIGHUP to the process whose id is printed first: each worker reads it and takes it in one
step. A request takes the weights once, so none sees some of each, and no request is lost. SIGTERM ends all when the
requests under way are answered. Needs `pip install tiaot uvicorn`.
"""

import argparse
import asyncio
import functools
import json
import os
import signal
import socket
import sys
import zipfile
from pathlib import Path

import numpy as np
import tiaot
import uvicorn


class Weights:
    """What a request works with: the kernel with its weights bound to it. Never changed, only replaced."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            W, b, self.version = file["W"], file["b"], int(file["version"])
        W, b = (np.ascontiguousarray(each, np.float32) for each in (W, b))
        self.layer = functools.partial(KERNEL, W=W, b=b)
        self.layer(np.zeros((1, W.shape[1]), np.float32))  # wrong shapes are told here, not to a caller


# Opened before the fork: the workers share its pages.
KERNEL = tiaot.load("dense_tanh")


class Service:
    """The ASGI application."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.weights = Weights(path)

    def reload(self) -> None:
        """Takes the file as it is now. What is wrong with it is printed, and the weights stay."""
        try:
            self.weights = Weights(self.path)
        except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            print(f"worker {os.getpid()} keeps its weights: {error}", file=sys.stderr, flush=True)

    async def __call__(self, scope: dict, receive, send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        weights = self.weights  # once for the whole request
        try:
            x = np.asarray(json.loads(body)["x"], np.float32)
            status, answer = 200, {"y": weights.layer(x).tolist(), "version": weights.version, "worker": os.getpid()}
        except (KeyError, TypeError, ValueError) as error:  # tiaot's errors of shapes and types among them
            status, answer = 400, {"error": str(error)}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def work(service: Service, listening: socket.socket) -> None:
    """One worker: answers until SIGTERM."""
    tiaot.set_num_threads(1)  # the workers are as many as the CPUs
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload)
    config = uvicorn.Config(service, log_level="warning", lifespan="off")
    await uvicorn.Server(config).serve(sockets=[listening])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    service = Service(options.weights)
    listening = socket.create_server(("127.0.0.1", options.port))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until a worker has its handler
    workers = []
    for _ in range(options.workers):
        child = os.fork()
        if child == 0:
            asyncio.run(work(service, listening))
            os._exit(0)
        workers.append(child)
    print(f"process {os.getpid()}, port {listening.getsockname()[1]}", flush=True)

    def pass_on(number: int, frame: object) -> None:
        for worker in workers:
            os.kill(worker, number)

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    codes = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
    # uvicorn raises the signal that ended it once more, when everything is answered.
    raise SystemExit(0 if set(codes) <= {0, -signal.SIGTERM, -signal.SIGINT} else 1)


if __name__ == "__main__":
    main()
