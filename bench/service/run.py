#!/usr/bin/env python3
"""How fast the service is, measured on a server of its own with 100,000 finished jobs. Needs wrk (Debian).

    cargo build --release --package masuka
    bench/service/run.py target/release/masuka [ready|reads|enqueue|claim|listeners|overhead ...]
    scripts/with-postgres bench/service/run.py target/release/masuka claim_postgres

The server is kept to processor 0, its worker (which draws all the while, where a row says so) and the clients to
processor 1. Each row prints one line of JSON.
"""
import asyncio, bisect, json, os, re, select, shutil, socket, sqlite3, statistics, subprocess, sys, tempfile, threading
import time, urllib.request

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
        return json.loads(urllib.request.urlopen(request).read() or "null")

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

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Drawing:
    """Pictures of many steps, one after the other for as long as the block lasts; `pauses` counts how often none was drawn."""

    BODY = SMALL | {"width": 256, "height": 256, "num_inference_steps": 100, "num_images": 4}

    def __init__(self, server):
        self.server, self.pauses, self.is_over = server, 0, threading.Event()
        self.jobs = [self.more(), self.more()]
        while not server.get("/api/queue")["processing"]:
            time.sleep(0.01)
        self.thread = threading.Thread(target=self.keep_drawing)

    def more(self):
        return self.server.post("/api/generate/image", self.BODY)["job_id"]

    def keep_drawing(self):
        while not self.is_over.wait(0.2):
            queue = self.server.get("/api/queue")
            self.pauses += queue["processing"] == 0
            if queue["pending"] == 0:
                self.jobs.append(self.more())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()
        for job in self.jobs:
            if self.server.get(f"/api/generate/{job}")["status"] in ("pending", "processing"):
                self.server.post(f"/api/generate/{job}/cancel", {})


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
    with Server(binary, folder) as server, Drawing(server) as drawing:
        one = wrk(f"{server.url}/api/generate/bench-5000")
        page = wrk(f"{server.url}/api/generate/?limit=20")
    return {"get": one, "list_of_20": page, "pauses_of_the_drawing": drawing.pauses}


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
    """The client only notes when which bytes came, and reads them afterwards: it shares its processor with the drawing."""
    count = 1000
    with Server(binary, folder) as server:
        server.finished(SMALL)
        before = server.rss_kib()
        body = SMALL | {"num_inference_steps": 60, "width": 256, "height": 256}
        server.post("/api/queue/pause", {})
        job = server.post("/api/generate/image", body)["job_id"]
        request = f"GET /api/progress/stream/{job} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n\r\n".encode()
        poll, sockets, heard = select.epoll(), {}, {}
        for _ in range(count):
            connection = socket.create_connection((server.host, int(server.port)))
            connection.sendall(request)
            sockets[connection.fileno()], heard[connection.fileno()] = connection, []
            poll.register(connection, select.EPOLLIN)
        hear(poll, sockets, heard, lambda: all(b"pending" in b"".join(c for _, c in chunks) for chunks in heard.values()))
        more = server.rss_kib() - before
        server.post("/api/queue/resume", {})
        hear(poll, sockets, heard, lambda: not sockets)
        more_at_the_end = server.rss_kib() - before
    delays = delays_of([messages(chunks) for chunks in heard.values()])
    return {"listeners": count, "more_rss_mib": more / 1024, "more_rss_mib_at_the_end": more_at_the_end / 1024,
            "events": len(delays) // count, "p50_ms_after_first": statistics.median(delays),
            "p99_ms_after_first": statistics.quantiles(delays, n=100)[98], "max_ms_after_first": max(delays)}


def hear(poll, sockets, heard, is_done):
    """Notes what comes and when, until `is_done`; who has heard the end is closed."""
    while not is_done():
        for fd, _ in poll.poll(1):
            chunk = sockets[fd].recv(1 << 16)
            heard[fd].append((time.monotonic(), chunk))
            if not chunk or chunk.endswith(b"0\r\n\r\n"):
                poll.unregister(fd)
                sockets.pop(fd).close()


def messages(chunks):
    """`(how far, when)` of each message of a stream, by the time at which the last of its bytes came."""
    found, ends, text = [], [], b""
    for at, chunk in chunks:
        text += chunk
        ends.append((len(text), at))
    for match in re.finditer(rb"data: (\{.*?\})\n", text):
        at = ends[bisect.bisect_left(ends, (match.end(),))][1]
        data = json.loads(match[1])
        status = ["pending", "processing", "completed"].index(data["status"])
        found.append(((status, data["image"], data["current_step"], data["stage"] or ""), at))
    return found


def delays_of(streams):
    """How long after the first of all listeners each of them knew of each event: heard it, or one after it."""
    order, first = {}, {}
    for stream in streams:
        for far, at in stream:
            first[far] = min(at, first.get(far, at))
    order = {far: place for place, far in enumerate(sorted(first, key=first.get))}
    delays = []
    for stream in streams:
        known = [(order[far], at) for far, at in stream]
        for far, place in order.items():
            if far[0] > 0:
                delays.append(1000 * max(0.0, min(at for seen, at in known if seen >= place) - first[far]))
    return delays


def main():
    os.sched_setaffinity(0, {1})
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
