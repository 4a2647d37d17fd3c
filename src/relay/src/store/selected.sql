WITH selected (hold_id, order_id) AS (
    SELECT holds.id, orders.id FROM holds JOIN orders ON placed_at >= placed_from AND placed_at < placed_to
    UNION ALL SELECT hold_id, orders.id FROM hold_digests JOIN orders ON number_digest = digest
    UNION ALL SELECT hold_id, orders.id FROM hold_digests JOIN orders ON buyer_digest = digest
    UNION ALL SELECT hold_id, order_id FROM hold_digests JOIN other_buyer_digests USING (digest)
    UNION ALL SELECT hold_id, orders.id FROM held_orders JOIN orders USING (number_digest)
)
SELECT DISTINCT orders.id, holds.id, holds.key_id
FROM selected
JOIN orders ON orders.id = selected.order_id
JOIN holds ON holds.id = selected.hold_id
WHERE NOT EXISTS (
    SELECT 1 FROM held_orders AS held
    WHERE held.hold_id = holds.id AND held.number_digest = orders.number_digest AND held.revision >= orders.revision
)
