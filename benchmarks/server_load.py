"""Measures ``sentenc serve cse-en`` under load from a second process: throughput, latency and errors.

    python benchmarks/server_load.py [--requests 100000] [--workers 1,2]

Clients keep their connections and send the next request when the previous one is answered (a closed loop).
Every response is compared, byte by byte, with the vectors that an encoder in the client's process computes
for the same texts. No two texts of the load have the same vector, so that a response to the wrong client is
detected. With several workers, CPU time is that of all processes of the server.
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import re
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import machine

CONCURRENCY = (1, 8, 64, 256)
MODEL = "cse-en"
TEXTS = 4000
# The numbers of texts per request of the mixed load, and its additional request fields.
SIZES = (1, 1, 1, 2, 5, 16)
VARIANTS = ({}, {"dimensions": 64}, {})


def texts_of_load() -> list[str]:
    from sentenc.collections import read_collection

    return list(dict.fromkeys(passage.text for passage in read_collection("factbook")))[:TEXTS]


class Load:
    """Requests as bytes, each with the embeddings that its response must contain."""

    def __init__(self, mixed: bool, size: int = 1) -> None:
        import sentenc

        encoder = sentenc.load(MODEL)
        texts = texts_of_load()
        embeddings = {
            dim: [
                b64encode(vector)
                for vector in encoder.encode(
                    texts, normalize_embeddings=True, truncate_dim=dim or encoder.similarity_dim
                )
            ]
            for dim in {variant.get("dimensions") for variant in VARIANTS}
        }
        # One text of each embedding.
        distinct = sorted({embedding: i for i, embedding in enumerate(embeddings[None])}.values())
        self.requests: list[tuple[bytes, list[bytes]]] = []
        start = 0
        for number in range(len(distinct)):
            count = SIZES[number % len(SIZES)] if mixed else size
            variant = VARIANTS[number % len(VARIANTS)] if mixed else {}
            indices = [distinct[(start + i) % len(distinct)] for i in range(count)]
            start += count
            inputs = texts[indices[0]] if count == 1 else [texts[i] for i in indices]
            fields = {"model": MODEL, "input": inputs, "encoding_format": "base64", **variant}
            self.requests.append((http(fields), [embeddings[variant.get("dimensions")][i] for i in indices]))


def http(fields: dict) -> bytes:
    """Returns an HTTP request with these JSON fields."""
    body = json.dumps(fields).encode()
    head = [
        b"POST /v1/embeddings HTTP/1.1",
        b"host: load",
        b"content-type: application/json",
        b"content-length: %d" % len(body),
    ]
    return b"\r\n".join([*head, b"", body])


class Client(asyncio.Protocol):
    """A connection that sends a request, checks its response, and sends the next one."""

    def __init__(self, run: "Run") -> None:
        self.run, self.buffer, self.expected = run, b"", []
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        request = self.run.next()
        if request is None:
            self.transport.close()
            return
        data, self.expected = request
        self.sent_at = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        if len(body) < int(re.search(rb"content-length: (\d+)", head)[1]):
            return
        self.run.answered(int(head[9:12]), body, self.expected, time.perf_counter() - self.sent_at)
        self.buffer, self.expected = b"", []
        self.send()

    def connection_lost(self, error) -> None:
        # A response that is still expected is lost.
        self.run.lost += bool(self.expected)
        if not self.ended.done():
            self.ended.set_result(None)


class Run:
    """The requests of one measurement, and the counts and latencies of their responses."""

    def __init__(self, load: Load, count: int) -> None:
        self.load, self.count, self.sent = load, count, 0
        self.latencies: list[float] = []
        self.refused: list[float] = []
        self.statuses: Counter = Counter()
        self.wrong = self.lost = self.texts = 0

    def next(self):
        if self.sent == self.count:
            return None
        self.sent += 1
        return self.load.requests[self.sent % len(self.load.requests)]

    def answered(self, status: int, body: bytes, expected: list[bytes], seconds: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.latencies.append(seconds)
            self.texts += len(expected)
            self.wrong += re.findall(rb'"embedding":"([^"]*)"', body) != expected
        else:
            self.refused.append(seconds)
            self.wrong += status != 429 or (b"retry" not in body and b"try again" not in body)


def percentiles(seconds: list[float]) -> dict:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=1000, method="inclusive")
    return {
        "p50_ms": cuts[499] * 1e3,
        "p99_ms": cuts[989] * 1e3,
        "p99.9_ms": cuts[998] * 1e3,
        "max_ms": max(seconds) * 1e3,
    }


async def drive(url: str, load: Load, count: int, concurrency: int) -> dict:
    address = urlsplit(url)
    run = Run(load, count)
    started, cpu = time.perf_counter(), time.process_time()
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(run), address.hostname, address.port))[1]
        for _ in range(concurrency)
    ]
    await asyncio.gather(*(client.ended for client in clients))
    seconds = time.perf_counter() - started
    return {
        "concurrency": concurrency,
        "requests": count,
        "seconds": seconds,
        "requests_per_second": run.statuses[200] / seconds,
        "texts_per_second": run.texts / seconds,
        **percentiles(run.latencies),
        "statuses": dict(run.statuses),
        "refused": percentiles(run.refused),
        "lost": run.lost + count - sum(run.statuses.values()),
        "wrong": run.wrong,
        "client_cpu_us_per_request": (time.process_time() - cpu) / count * 1e6,
    }


def client(options: dict) -> None:
    """The second process: prints a JSON object for each run in its options."""
    runner = asyncio.run
    try:
        import uvloop

        runner = uvloop.run
    except ImportError:
        pass
    load = Load(options["mixed"], options.get("size", 1))
    runner(drive(options["url"], load, 300, 8))
    print("warm", flush=True)
    for count, concurrency in options["runs"]:
        print(json.dumps(runner(drive(options["url"], load, count, concurrency))), flush=True)


class Server:
    """The processes of ``sentenc serve cse-en``, and the seconds that their start took."""

    def __init__(self, *options: str, workers: int = 1) -> None:
        self.workers = workers
        started = time.perf_counter()
        command = [
            sys.executable,
            "-c",
            "from sentenc.cli import main; main()",
            "serve",
            MODEL,
            "--port",
            "0",
            "--workers",
            str(workers),
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.seconds_to_listen = time.perf_counter() - started
        self.url = re.search(r"http://\S+", line)[0]
        self.until_ready()
        self.seconds_to_ready = time.perf_counter() - started

    def until_ready(self) -> None:
        import urllib.error
        import urllib.request

        while True:
            try:
                urllib.request.urlopen(f"{self.url}/ready")
                return
            except urllib.error.HTTPError:
                time.sleep(0.005)

    def pids(self) -> list[int]:
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def cpu_seconds(self) -> float:
        seconds = 0.0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return seconds

    def peak_megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def megabytes(self) -> float:
        """Returns the memory of all processes; pages that several of them share count once."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        return sum(int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1]) for rollup in rollups) / 1024

    def load(self, runs: list[tuple[int, int]], **options) -> list[dict]:
        """Drives the load from a process of its own, and adds the server's CPU time to its results."""
        request = json.dumps({"url": self.url, "runs": runs, **options})
        results = []
        with subprocess.Popen(
            [sys.executable, __file__, "--client", request], stdout=subprocess.PIPE, text=True
        ) as process:
            process.stdout.readline()
            before = self.cpu_seconds()
            for line in process.stdout:
                now = self.cpu_seconds()
                result = {"workers": self.workers, **json.loads(line)}
                result["server_cpu_us_per_request"] = (now - before) / result["requests"] * 1e6
                before = now
                results.append(result)
                show(result)
        if process.returncode:
            raise SystemExit(f"the client ended with exit code {process.returncode}")
        return results

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


def show(result: dict) -> None:
    print(
        f"{result['workers']} workers, {result['concurrency']:>4} clients: {result['requests_per_second']:8.0f} requests/s, "
        f"{result['texts_per_second']:8.0f} texts/s, p50 {result.get('p50_ms', 0):7.2f} ms, "
        f"p99 {result.get('p99_ms', 0):7.2f} ms, {result['statuses']}, "
        f"lost {result['lost']}, wrong {result['wrong']}",
        flush=True,
    )


def start_times() -> dict:
    server = Server()
    server.stop()
    return {"seconds_to_listen": server.seconds_to_listen, "seconds_to_ready": server.seconds_to_ready}


def part_of(requests: int) -> int:
    return max(requests // 5, 100)


def measure(content: dict, workers: int, requests: int) -> int:
    """Adds the results with a number of workers; returns the server's exit code after SIGTERM."""
    server = Server(workers=workers)
    part = part_of(requests)
    runs = [(max(part // 4, 100) if level == 1 else part, level) for level in CONCURRENCY]
    print("one text per request")
    content["one_text"] += server.load(runs, mixed=False)
    print("32 texts per request")
    many = [(max(count // 20, 100), level) for count, level in runs]
    content["32_texts"] += server.load(many, mixed=False, size=32)
    print("1 to 16 texts per request, some with fewer dimensions")
    content["mixed"] += server.load([(requests, 64)], mixed=True)
    content["memory"].append({"workers": workers, "megabytes": server.megabytes()})
    if workers == 1:
        content["peak_megabytes"] = server.peak_megabytes()
    return server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--requests", type=int, default=100_000, help="number of requests of the long, mixed run"
    )
    parser.add_argument(
        "--workers", default="1", help="numbers of worker processes, separated by commas (default: 1)"
    )
    parser.add_argument(
        "--output", default="server_load", help="name of the result, or an absolute path without .json"
    )
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        client(json.loads(options.client))
        return
    content = machine.circumstances()
    for package in ("starlette", "uvicorn", "uvloop", "httptools"):
        content["versions"][package] = importlib.metadata.version(package)
    counts = [int(number) for number in options.workers.split(",")]
    content["start"] = [start_times() for _ in range(5)]
    content |= {"one_text": [], "32_texts": [], "mixed": [], "memory": []}
    exit_codes = [measure(content, workers, options.requests) for workers in counts]
    content["exit_code_after_sigterm"] = max(map(abs, exit_codes))
    server = Server("--max-queue", "8")
    print("overload: a queue of 8")
    part = part_of(options.requests)
    content["overload"] = {"max_queue": 8, "runs": server.load([(part, 64), (part, 256)], mixed=True)}
    content["overload"]["exit_code_after_sigterm"] = server.stop()
    print(machine.write(options.output, content))


if __name__ == "__main__":
    main()
