-- What the user wants of a running job besides its end: `pause` or `save`.
ALTER TABLE jobs ADD COLUMN wish TEXT;

-- What a user asked for; the job of the same id says how far it is. Pictures and captions are as they were then.
CREATE TABLE training_sessions (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    model_type TEXT NOT NULL,
    dataset_id TEXT NOT NULL,
    base_model TEXT NOT NULL,
    parameters TEXT NOT NULL,
    pictures TEXT NOT NULL,
    model_id TEXT,
    created_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT
);
CREATE INDEX training_sessions_newest ON training_sessions (created_at_ms, id);
CREATE INDEX training_sessions_of_dataset ON training_sessions (dataset_id);

-- From where it goes on, whoever runs it.
CREATE TABLE training_checkpoints (
    session_id TEXT NOT NULL,
    step BIGINT NOT NULL,
    blob_key TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (session_id, step)
);

-- Pictures drawn meanwhile.
CREATE TABLE training_samples (
    session_id TEXT NOT NULL,
    step BIGINT NOT NULL,
    position BIGINT NOT NULL,
    prompt TEXT NOT NULL,
    blob_key TEXT NOT NULL,
    PRIMARY KEY (session_id, step, position)
);

-- The loss of every step.
CREATE TABLE training_losses (
    session_id TEXT NOT NULL,
    step BIGINT NOT NULL,
    loss DOUBLE PRECISION NOT NULL,
    smoothed_loss DOUBLE PRECISION NOT NULL,
    learning_rate DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (session_id, step)
);
