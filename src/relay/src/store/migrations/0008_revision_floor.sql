-- No revision is below this: it is raised by a restore, since the destination may know later ones than the backup does.
ALTER TABLE relay ADD COLUMN revision_floor INTEGER NOT NULL DEFAULT 0;
