-- What was done, each record with the hash of the one before (docs/operations/audit.md). No personal data, no digests.
CREATE TABLE audit (
    sequence INTEGER NOT NULL PRIMARY KEY CHECK (sequence >= 1),
    at       INTEGER NOT NULL,
    action   TEXT    NOT NULL,
    actor    TEXT    NOT NULL,
    object   TEXT    NOT NULL,
    count    INTEGER CHECK (count >= 0),
    previous BLOB    NOT NULL CHECK (length(previous) = 32),
    hash     BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- The chain that the records are of; its row is written when the database is opened.
CREATE TABLE audit_chain (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    chain      TEXT    NOT NULL,
    -- The last record that went because of its age, and the signed statement of it.
    pruned     INTEGER NOT NULL DEFAULT 0,
    checkpoint TEXT
) STRICT;

-- How many records and deeds there were of each action, those included that were pruned.
CREATE TABLE audit_counts (
    action  TEXT    NOT NULL PRIMARY KEY,
    records INTEGER NOT NULL,
    deeds   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT raise(ABORT, 'audit records are never changed');
END;

CREATE TRIGGER audit_goes_by_pruning_alone BEFORE DELETE ON audit
    WHEN old.sequence > (SELECT pruned FROM audit_chain)
BEGIN
    SELECT raise(ABORT, 'audit records are only pruned');
END;

CREATE TRIGGER audit_grows_at_its_end BEFORE INSERT ON audit
    WHEN new.sequence <> 1 + (SELECT coalesce((SELECT max(sequence) FROM audit), pruned) FROM audit_chain)
BEGIN
    SELECT raise(ABORT, 'audit records follow each other');
END;

CREATE TRIGGER audit_is_counted AFTER INSERT ON audit
BEGIN
    INSERT INTO audit_counts (action, records, deeds) VALUES (new.action, 1, coalesce(new.count, 1))
        ON CONFLICT (action) DO UPDATE SET records = records + 1, deeds = deeds + excluded.deeds;
END;

CREATE TRIGGER audit_chain_stays BEFORE UPDATE ON audit_chain
    WHEN new.chain <> old.chain OR new.pruned < old.pruned
BEGIN
    SELECT raise(ABORT, 'an audit chain stays');
END;

CREATE TRIGGER audit_chain_is_kept BEFORE DELETE ON audit_chain
BEGIN
    SELECT raise(ABORT, 'an audit chain stays');
END;

-- What was dropped past its deadline is recorded now and then: a marketplace can tell the same order again and again.
ALTER TABLE relay ADD COLUMN dropped_recorded INTEGER NOT NULL DEFAULT 0;
