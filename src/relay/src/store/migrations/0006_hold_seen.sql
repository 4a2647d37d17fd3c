-- The newest keyring's marks when the hold's key was last in it. Both only ever grow: a keyring with a greater one is a later
-- one. Of holds that were known before they are taken at the next look.

ALTER TABLE holds ADD COLUMN seen_generation INTEGER;
ALTER TABLE holds ADD COLUMN seen_last_epoch INTEGER;
