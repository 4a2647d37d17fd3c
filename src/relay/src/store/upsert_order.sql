INSERT INTO orders (
    number_digest, buyer_digest, content_digest, revision, marketplace, status, marketplace_status, fulfilment,
    sales_channel, country, placed_at, updated_at, first_shipped_at, total_minor, total_currency, tax_minor,
    tax_currency, deadline, destroy_at, pii, pii_key, volume_generation
) VALUES (
    :number_digest, :buyer_digest, :content_digest, :revision, :marketplace, :status, :marketplace_status, :fulfilment,
    :sales_channel, :country, :placed_at, :updated_at, :first_shipped_at, :total_minor, :total_currency, :tax_minor,
    :tax_currency, :deadline, :destroy_at, :pii, :pii_key, :volume_generation
)
ON CONFLICT (number_digest) DO UPDATE SET
    buyer_digest = excluded.buyer_digest, content_digest = excluded.content_digest, revision = excluded.revision,
    status = excluded.status, marketplace_status = excluded.marketplace_status, fulfilment = excluded.fulfilment,
    sales_channel = excluded.sales_channel, country = excluded.country, placed_at = excluded.placed_at,
    updated_at = excluded.updated_at, first_shipped_at = excluded.first_shipped_at,
    total_minor = excluded.total_minor, total_currency = excluded.total_currency, tax_minor = excluded.tax_minor,
    tax_currency = excluded.tax_currency, deadline = excluded.deadline, destroy_at = excluded.destroy_at,
    pii = excluded.pii, pii_key = excluded.pii_key, volume_generation = excluded.volume_generation
