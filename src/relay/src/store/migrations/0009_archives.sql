-- What tells whether an archive of the hold has all that it keeps: later with each order that it keeps, and after a restore later
-- than ever before. Milliseconds.

ALTER TABLE holds ADD COLUMN kept_at INTEGER NOT NULL DEFAULT 0;
-- The same, of what it selected when it was looked at; orders that come meanwhile don't count.
ALTER TABLE holds ADD COLUMN selected_at INTEGER NOT NULL DEFAULT 0;
