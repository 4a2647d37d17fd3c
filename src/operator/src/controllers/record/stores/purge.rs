//! What is to be deleted in stores, and how far that is: everything of a closed connection, or in stores that one has left what is
//! escrowed there and what has expired. Pure.

use jiff::Timestamp;
use marketrelay_api::record::{ClosureProof, PurgedStore};

use crate::{controllers::backup::Task, names};

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// All that there is of a closed connection.
    Everything,
    /// The escrowed keys alone.
    Escrow,
    /// Backups whose time has come, and archives of holds that have ended.
    Expired,
}

impl What {
    /// All.
    pub const ALL: [Self; 3] = [Self::Everything, Self::Escrow, Self::Expired];
    /// What goes from stores that were left.
    pub const LEFT: [Self; 2] = [Self::Escrow, Self::Expired];

    /// The entry with a Job's configuration. A Job never reads another one's.
    pub fn entry(self) -> &'static str {
        match self {
            Self::Everything => "job.yaml",
            Self::Escrow => "withdraw.yaml",
            Self::Expired => "expire.yaml",
        }
    }

    /// The Job of an attempt, after so many others.
    pub fn attempt(self, connection_id: &str, attempts: i64) -> String {
        match self {
            Self::Everything => names::purge_attempt(connection_id, attempts),
            Self::Escrow => names::withdraw_attempt(connection_id, attempts),
            Self::Expired => names::expire_attempt(connection_id, attempts),
        }
    }

    /// The NetworkPolicy of its Jobs.
    pub fn policy(self, connection_id: &str) -> String {
        match self {
            Self::Everything => names::purge(connection_id),
            Self::Escrow => names::withdraw(connection_id),
            Self::Expired => names::expire(connection_id),
        }
    }

    /// The Jobs of the connection that write it.
    pub fn writer(self) -> Task {
        match self {
            Self::Everything | Self::Expired => Task::Run,
            Self::Escrow => Task::Escrow,
        }
    }

    /// As messages say it.
    pub fn are(self) -> &'static str {
        match self {
            Self::Everything => "its backups are",
            Self::Escrow => "what may be escrowed of its keys is",
            Self::Expired => "its expired backups are",
        }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Purge {
    /// What goes.
    pub what: What,
    /// From where.
    pub stores: Vec<PurgedStore>,
    /// How many Jobs have ended.
    pub attempts: i64,
    /// From when on it is tried.
    pub since: Timestamp,
}

impl Purge {
    /// Of a closure.
    pub fn of(proof: &ClosureProof) -> Self {
        Self {
            what: What::Everything,
            stores: proof.stores.clone(),
            attempts: proof.purge_attempts,
            since: proof.began_at.0,
        }
    }

    /// Onto a closure's proof.
    pub fn onto(self, proof: &ClosureProof) -> ClosureProof {
        ClosureProof { stores: self.stores, purge_attempts: self.attempts, ..proof.clone() }
    }

    /// Whether nothing is to be done with any store any more.
    pub fn is_over(&self) -> bool {
        self.stores.iter().all(PurgedStore::is_done)
    }
}
