#!/usr/bin/env python3
"""How fast the service is, measured on a server of its own with 100,000 finished jobs. Needs wrk (Debian).

    cargo build --release --package masuka
    bench/service/run.py target/release/masuka [ready|reads|enqueue|claim|listeners|overhead ...]
    scripts/with-postgres bench/service/run.py target/release/masuka claim_postgres

The server is kept to processor 0, its worker (which draws all the while, where a row says so) and the clients to
processor 1. Each row prints one line of JSON.
"""
import asyncio, json, os, re, shutil, sqlite3, statistics, subprocess, sys, tempfile, time, urllib.request

JOBS = 100_000
SMALL = {"prompt": "red apple, noto style", "num_inference_steps": 2, "width": 64, "height": 64, "seed": 7}


class Server:
    """A server over `folder`; the worker, if there is one, on the other processor."""

    def __init__(self, binary, folder, *flags, **variables):
        env = {"PATH": os.environ["PATH"], "MASUKA_DATA_DIR": folder, "MASUKA_LOG": "error"} | variables
        command = ["taskset", "-c", "0", binary, "serve", "--port", "0", "--max-waiting", "1000000", *flags]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"http://[^ ]+", self.process.stdout.readline())[0]
        self.host, self.port = self.url[7:].split(":")
        if "--no-worker" not in flags:
            while not (workers := self.get("/api/queue")["workers"]):
                time.sleep(0.05)
            subprocess.run(["taskset", "-a", "-p", "-c", "1", str(workers[0]["pid"])], stdout=subprocess.DEVNULL)

    def get(self, path):
        return json.load(urllib.request.urlopen(self.url + path))

    def post(self, path, body):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        return json.load(urllib.request.urlopen(request))

    def finished(self, body):
        job = self.post("/api/generate/image", body)["job_id"]
        while (found := self.get(f"/api/generate/{job}"))["status"] != "completed":
            time.sleep(0.002)
        return found

    def rss_kib(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def stop(self):
        self.process.terminate()
        self.process.wait()


def seed(folder, job):
    """Copies a finished job until there are JOBS of them, each a millisecond older than the last."""
    base = sqlite3.connect(os.path.join(folder, "masuka.db"))
    for table, key in [("jobs", "id"), ("generations", "id"), ("outputs", "job_id")]:
        columns = [row[1] for row in base.execute(f"PRAGMA table_info({table})")]
        value = lambda c: "'bench-' || n" if c == key else f"{c} - n" if c.endswith("_at_ms") else c
        values = ", ".join(map(value, columns))
        base.execute(
            f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {JOBS}) "
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, c WHERE {key} = ?",
            [job],
        )
    base.commit()
    base.close()


def wrk(url, seconds=8):
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c8", f"-d{seconds}s", "--latency", url]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    p99 = float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    errors = re.search(r"Non-2xx.*: (\d+)", text)
    return {"per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), "p99_ms": p99,
            "errors": int(errors[1]) if errors else 0}


def reads(binary, folder):
    server = Server(binary, folder)
    long = SMALL | {"width": 256, "height": 256, "num_inference_steps": 100}
    for _ in range(8):
        server.post("/api/generate/image", long)
    time.sleep(1)
    one = wrk(f"{server.url}/api/generate/bench-5000")
    page = wrk(f"{server.url}/api/generate?limit=20")
    draws = server.get("/api/queue")["processing"]
    server.stop()
    return {"get": one, "list_of_20": page, "generations_running": draws}


async def client(host, port, body, count, times):
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /api/generate/image HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    for _ in range(count):
        start = time.perf_counter()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 201 " in answer.split(b"\r\n")[0], answer
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", answer)[1]))
        times.append(time.perf_counter() - start)


def enqueue(binary, folder):
    server, times = Server(binary, folder, "--no-worker"), []
    body = json.dumps(SMALL).encode()

    async def all_clients():
        await asyncio.gather(*(client(server.host, server.port, body, 100, times) for _ in range(32)))

    start = time.perf_counter()
    asyncio.run(all_clients())
    seconds = time.perf_counter() - start
    server.stop()
    return {"clients": 32, "per_second": len(times) / seconds, "p99_ms": 1000 * statistics.quantiles(times, n=100)[98]}


def ready(binary, folder):
    """From the start of the process to its first answer, and to a worker that has the model in memory."""
    listening, loaded = [], []
    for _ in range(10):
        start = time.perf_counter()
        server = Server(binary, folder, "--no-worker")
        assert server.get("/ready")["ready"]
        listening.append(time.perf_counter() - start)
        server.stop()
        start = time.perf_counter()
        server = Server(binary, folder, "--preload")
        while not server.get("/api/queue")["workers"][0]["state"].get("loaded_models"):
            time.sleep(0.005)
        loaded.append(time.perf_counter() - start)
        server.stop()
    ms = lambda times: {"median_ms": 1000 * statistics.median(times), "max_ms": 1000 * max(times)}
    return {"server": ms(listening), "starter_loaded": ms(loaded)}


def claim(binary, folder):
    server = Server(binary, folder)
    waits = claim_waits(server)
    server.stop()
    return waits


def claim_postgres(binary, folder):
    """Server and worker of one PostgreSQL, each with a data folder of its own, as on two machines."""
    address = os.environ["MASUKA_TEST_POSTGRES"]
    subprocess.run(["psql", "-q", f"{address}/postgres", "-c", "CREATE DATABASE bench"], check=True)
    here, there = tempfile.mkdtemp(), tempfile.mkdtemp()
    url = {"DATABASE_URL": f"{address}/bench"}
    server = Server(binary, here, "--no-worker", **url)
    env = {"PATH": os.environ["PATH"], "MASUKA_DATA_DIR": there, "MASUKA_LOG": "error"} | url
    worker = subprocess.Popen(["taskset", "-c", "1", binary, "worker"], env=env)
    waits = claim_waits(server)
    worker.terminate()
    worker.wait()
    server.stop()
    shutil.rmtree(here)
    shutil.rmtree(there)
    return waits


def claim_waits(server):
    """How long jobs wait for a worker that has nothing to do, by the database's clock."""
    server.finished(SMALL)
    waits = []
    for _ in range(50):
        job = server.finished(SMALL)["id"]
        log = server.get(f"/api/jobs/{job}/log")
        at = {entry["event"]: entry["at"] for entry in reversed(log)}
        ms = lambda text: float(text[17:-1]) * 1000
        waits.append((ms(at["processing"]) - ms(at["pending"])) % 60_000)
        time.sleep(0.05)
    return {"jobs": len(waits), "median_ms": statistics.median(waits), "max_ms": max(waits)}


def overhead(binary, folder):
    server = Server(binary, folder)
    server.finished(SMALL)
    extra = []
    for _ in range(50):
        start = time.perf_counter()
        job = server.post("/api/generate/image", SMALL)["job_id"]
        while (found := server.get(f"/api/generate/{job}"))["status"] != "completed":
            time.sleep(0.002)
        extra.append(1000 * (time.perf_counter() - start - sum(found["timings"].values())))
    server.stop()
    return {"jobs": len(extra), "median_ms": statistics.median(extra), "p90_ms": statistics.quantiles(extra, n=10)[8]}


def listeners(binary, folder):
    server, count = Server(binary, folder), 1000
    server.finished(SMALL)
    before = server.rss_kib()
    job = server.post("/api/generate/image", SMALL | {"num_inference_steps": 60, "width": 256, "height": 256})["job_id"]
    heard = {}

    async def listen(ready):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(f"GET /api/progress/stream/{job} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        ready.release()
        while line := await reader.readline():
            if line.startswith(b"data:"):
                data = json.loads(line[5:])
                heard.setdefault((data["status"], data["stage"], data["current_step"]), []).append(time.perf_counter())
                if data["status"] == "completed":
                    break
        writer.close()

    async def all_listeners():
        ready = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(listen(ready)) for _ in range(count)]
        for _ in range(count):
            await ready.acquire()
        more = server.rss_kib() - before
        await asyncio.gather(*tasks)
        return more

    more = asyncio.run(all_listeners())
    # How long after the first listener the others heard of each event that all of them heard.
    late = [1000 * (t - min(times)) for times in heard.values() if len(times) == count for t in times]
    server.stop()
    return {"listeners": count, "more_rss_mib": more / 1024, "events_heard_by_all": len(late) // count,
            "p99_ms_after_first": statistics.quantiles(late, n=100)[98]}


def main():
    binary, *names = sys.argv[1:]
    rows = {"ready": ready, "reads": reads, "enqueue": enqueue, "claim": claim, "listeners": listeners, "overhead": overhead}
    folder = tempfile.mkdtemp()
    server = Server(binary, folder)
    job = server.finished(SMALL)["id"]
    server.stop()
    seed(folder, job)
    more = {"claim_postgres": claim_postgres}
    for name in names or rows:
        print(json.dumps({name: (rows | more)[name](binary, folder)}, default=str), flush=True)
    shutil.rmtree(folder)


main()
