-- How many snapshots were begun: the number of the last one. It goes on after a restore.
ALTER TABLE relay ADD COLUMN snapshots INTEGER NOT NULL DEFAULT 0;
