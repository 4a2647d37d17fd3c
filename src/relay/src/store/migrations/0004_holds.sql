-- Holds keep a second envelope of an order, under a key of their own. It has no part in what becomes of the order.

CREATE TABLE holds (
    id          INTEGER NOT NULL PRIMARY KEY,
    -- Of the hold's key: a later hold of the same name is another one.
    key_id      BLOB    NOT NULL UNIQUE CHECK (length(key_id) = 32),
    name        TEXT    NOT NULL,
    -- Whole seconds, as destroy_at.
    until       INTEGER NOT NULL,
    -- Orders that were placed from then and before then.
    placed_from INTEGER,
    placed_to   INTEGER CHECK ((placed_to IS NULL) = (placed_from IS NULL)),
    -- Everything that it selected was kept, when it was last looked at.
    complete    INTEGER NOT NULL DEFAULT 0 CHECK (complete IN (0, 1))
) STRICT;

-- Of orders and buyers that a hold selects.
CREATE TABLE hold_digests (
    hold_id INTEGER NOT NULL REFERENCES holds (id) ON DELETE CASCADE,
    digest  BLOB    NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (hold_id, digest)
) STRICT, WITHOUT ROWID;

-- An order as the destination gets it, sealed under the hold's key.
CREATE TABLE held_orders (
    id                INTEGER NOT NULL PRIMARY KEY,
    hold_id           INTEGER NOT NULL REFERENCES holds (id) ON DELETE CASCADE,
    number_digest     BLOB    NOT NULL CHECK (length(number_digest) = 32),
    revision          INTEGER NOT NULL CHECK (revision >= 1),
    pii               BLOB    NOT NULL,
    pii_key           BLOB    NOT NULL,
    volume_generation INTEGER NOT NULL,
    UNIQUE (hold_id, number_digest)
) STRICT;

CREATE INDEX held_orders_by_number ON held_orders (number_digest);

-- Who is in it, so that an erasure can say that it is held.
CREATE TABLE held_people (
    held_id INTEGER NOT NULL REFERENCES held_orders (id) ON DELETE CASCADE,
    digest  BLOB    NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (held_id, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX held_people_by_digest ON held_people (digest);

-- Of the orders that a request found, those that stay held.
ALTER TABLE erasures ADD COLUMN held INTEGER NOT NULL DEFAULT 0 CHECK (held BETWEEN 0 AND matched);
