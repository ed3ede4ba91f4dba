-- The table is the queue. `due_ms` orders it: the time of enqueueing, earlier by a fixed time for each priority.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    base_model TEXT NOT NULL,
    status TEXT NOT NULL,
    priority BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL,
    worker_id TEXT,
    lease_epoch BIGINT NOT NULL DEFAULT 0,
    lease_until_ms BIGINT,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    progress TEXT,
    error_code TEXT,
    error_message TEXT,
    created_at_ms BIGINT NOT NULL,
    started_at_ms BIGINT,
    finished_at_ms BIGINT
);
CREATE INDEX jobs_waiting ON jobs (status, queue, due_ms);

-- What happened to jobs, in order.
CREATE TABLE job_events (
    id IDENTITY_KEY,
    job_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE INDEX job_events_of_job ON job_events (job_id, id);

-- Servers and workers that are, or were a moment ago.
CREATE TABLE processes (
    id TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    supervisor_id TEXT,
    pid BIGINT NOT NULL,
    state TEXT NOT NULL,
    started_at_ms BIGINT NOT NULL,
    seen_at_ms BIGINT NOT NULL
);

-- Values that all processes share.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
