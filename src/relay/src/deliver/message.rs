//! Putting a message together: the one that was begun, or a new one.

use jiff::Timestamp;
use marketrelay_keyring::{Keyring, OpenError};
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Deliverer, body};
use crate::store::{
    Result, UnreadableSnafu,
    delivery::DeliveryRow,
    outbox::{self, Event, Message},
};

/// A message with its body.
pub(super) struct Rendered {
    pub(super) message: Message,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// What the outbox holds for the destination.
pub(super) enum Chosen {
    Message(Rendered),
    /// Events whose orders are gone were taken out; look again.
    GaveUp,
    /// Nothing is due.
    Nothing,
}

/// Sequence and revision of each event, and the events as JSON.
type Batch = (Vec<(i64, u64)>, Vec<Zeroizing<Vec<u8>>>);

impl Deliverer {
    /// The message that was begun, as it was; or a new one of the events that are due.
    pub(super) async fn message(
        &self,
        row: &DeliveryRow,
        keyring: &Arc<Keyring>,
        now: Timestamp,
    ) -> Result<Chosen> {
        let most = self.webhook.batch.max_events;
        let most = row.max_events.map_or(most, |few| few.min(most));
        let (begun, keyring) = (row.clone(), keyring.clone());
        let events = self
            .store
            .read(move |connection| outbox::candidates(connection, &begun, &keyring, most, now))
            .await?;
        let lost = expired(&events, now)?;
        if !lost.is_empty() {
            tracing::warn!(events = lost.len(), "given up: the key of their orders is gone");
            self.store.write(move |connection| outbox::give_up(connection, &lost)).await?;
            return Ok(Chosen::GaveUp);
        }
        if events.is_empty() && row.message.is_some() {
            self.store.write(outbox::dissolve_message).await?;
            return Ok(Chosen::GaveUp);
        }
        if events.is_empty() {
            return Ok(Chosen::Nothing);
        }
        let limit = if row.message.is_some() { usize::MAX } else { self.webhook.batch.max_bytes as usize };
        let (chosen, rendered) = self.render(&events, limit)?;
        let (id, at) = match row.message.clone() {
            Some(begun) => begun,
            None => (format!("msg_{}", Uuid::new_v4().simple()), whole_milliseconds(now)),
        };
        let body = body::render(self.id.as_str(), self.marketplace, at, &rendered)?;
        Ok(Chosen::Message(Rendered { message: Message { id, at, events: chosen }, body }))
    }

    /// As many events as fit into `limit` bytes, one at least.
    fn render(&self, events: &[Event], limit: usize) -> Result<Batch> {
        let (mut chosen, mut rendered, mut size) = (Vec::new(), Vec::new(), 0);
        for event in events {
            let Ok(content) = &event.content else { continue };
            let json = body::Event::new(event.id(&self.id), event.revision, content).render()?;
            size += json.len() + 1;
            if size > limit && !rendered.is_empty() {
                break;
            }
            chosen.push((event.sequence, event.revision));
            rendered.push(json);
        }
        Ok((chosen, rendered))
    }
}

/// As the database keeps it: the body of a repeated message is made of that.
fn whole_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// The events whose orders' keys died on time. An order that can't be opened for another reason stops delivery.
fn expired(events: &[Event], now: Timestamp) -> Result<Vec<i64>> {
    let mut expired = Vec::new();
    for event in events {
        match &event.content {
            Ok(_) => {}
            Err(OpenError::KeyGone { name }) if name.is_due(now) => expired.push(event.sequence),
            Err(error) => return UnreadableSnafu { reason: error.to_string() }.fail(),
        }
    }
    Ok(expired)
}
