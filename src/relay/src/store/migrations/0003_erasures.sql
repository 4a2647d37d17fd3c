-- Further keyed digests of people in an order, beside orders.buyer_digest: whoever asks to be forgotten is found by any
-- of them. They go with the order.
CREATE TABLE other_buyer_digests (
    order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    digest   BLOB    NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (order_id, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX other_buyer_digests_by_digest ON other_buyer_digests (digest);

-- The answer to each request, until nobody asks again.
CREATE TABLE erasures (
    uid          TEXT    NOT NULL PRIMARY KEY,
    matched      INTEGER NOT NULL CHECK (matched >= 0),
    erased       INTEGER NOT NULL CHECK (erased BETWEEN 0 AND matched),
    -- Whole seconds, as destroy_at.
    sealed_until INTEGER,
    forget_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Erased orders that a marketplace may tell again. An entry ends when that order would be past its deadline anyway.
CREATE TABLE erasure_journal (
    number_digest BLOB    NOT NULL PRIMARY KEY CHECK (length(number_digest) = 32),
    until         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX erasure_journal_by_until ON erasure_journal (until);

-- Erased orders that the destination hasn't been told of: the number alone, sealed under the key of the order's deadline.
CREATE TABLE erased_orders (
    id                INTEGER NOT NULL PRIMARY KEY,
    number_digest     BLOB    NOT NULL UNIQUE CHECK (length(number_digest) = 32),
    revision          INTEGER NOT NULL CHECK (revision >= 1),
    destroy_at        INTEGER NOT NULL,
    pii               BLOB    NOT NULL,
    pii_key           BLOB    NOT NULL,
    volume_generation INTEGER NOT NULL
) STRICT;

CREATE INDEX erased_orders_by_destroy_at ON erased_orders (destroy_at);

-- An event is about an order or about an erased one.
CREATE TABLE events (
    sequence        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    order_id        INTEGER UNIQUE REFERENCES orders (id) ON DELETE CASCADE,
    erased_id       INTEGER UNIQUE REFERENCES erased_orders (id) ON DELETE CASCADE,
    revision        INTEGER NOT NULL,
    recorded_at     INTEGER NOT NULL,
    -- Of an event that the destination refused by itself; the others go on.
    refusals        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL DEFAULT 0,
    in_message      INTEGER NOT NULL DEFAULT 0 CHECK (in_message IN (0, 1)),
    CHECK ((order_id IS NULL) <> (erased_id IS NULL))
) STRICT;

INSERT INTO events (sequence, order_id, revision, recorded_at, refusals, next_attempt_at, in_message)
    SELECT sequence, order_id, revision, recorded_at, refusals, next_attempt_at, in_message FROM outbox;

DROP TABLE outbox;

ALTER TABLE events RENAME TO outbox;

CREATE INDEX outbox_due ON outbox (next_attempt_at, sequence);
CREATE INDEX outbox_in_message ON outbox (in_message) WHERE in_message = 1;

-- What the destination has been told of, or can't be told any more, is kept no longer.
CREATE TRIGGER told_erased AFTER DELETE ON outbox WHEN old.erased_id IS NOT NULL
BEGIN
    DELETE FROM erased_orders WHERE id = old.erased_id;
END;
