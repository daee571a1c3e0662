-- What is known about the file itself: which program made it and wrote to it.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Numbers that are given out once: next_app, next_run.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Inherited environments. Many apps share one. The digest only finds candidates; the text decides.
CREATE TABLE environments (
    id     INTEGER PRIMARY KEY,
    digest INTEGER NOT NULL,
    json   TEXT NOT NULL
) STRICT;
CREATE INDEX environments_by_digest ON environments (digest);

-- Desired state. The spec is without its inherited environment.
CREATE TABLE apps (
    id                INTEGER PRIMARY KEY,
    name              TEXT NOT NULL UNIQUE,
    spec              TEXT NOT NULL,
    environment_id    INTEGER NOT NULL REFERENCES environments (id),
    desired_instances INTEGER NOT NULL,
    wanted            TEXT NOT NULL CHECK (wanted IN ('running', 'stopped')),
    -- Slots the user stopped one by one, as a JSON array.
    held              TEXT NOT NULL DEFAULT '[]',
    created_at        INTEGER NOT NULL
) STRICT;
CREATE INDEX apps_by_environment ON apps (environment_id);

-- What the supervisor remembers of an app: circuit, back-off, counters. Its moments belong to one boot.
CREATE TABLE app_runtime (
    app_id  INTEGER PRIMARY KEY REFERENCES apps (id) ON DELETE CASCADE,
    boot_id TEXT NOT NULL,
    json    TEXT NOT NULL
) STRICT;

-- Living processes. A row may outlive its app, so that a survivor of a deleted app is still known.
CREATE TABLE runs (
    run         INTEGER PRIMARY KEY,
    app_id      INTEGER NOT NULL,
    slot        INTEGER NOT NULL,
    pid         INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    boot_id     TEXT NOT NULL,
    started_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    at   INTEGER NOT NULL,
    kind TEXT NOT NULL,
    app  TEXT,
    slot INTEGER,
    pid  INTEGER,
    json TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_app ON events (app, seq);

CREATE TABLE crashes (
    id        INTEGER PRIMARY KEY,
    app_id    INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    at        INTEGER NOT NULL,
    slot      INTEGER NOT NULL,
    pid       INTEGER NOT NULL,
    uptime_ms INTEGER NOT NULL,
    exit      TEXT NOT NULL,
    stderr    TEXT NOT NULL
) STRICT;
CREATE INDEX crashes_by_app ON crashes (app_id, id);
