//! A thread that owns a connection to the database.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{Result, StoreError};

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

enum Message {
    Run(Job),
    Close,
}

/// Jobs that may wait; whoever brings more waits too.
const QUEUE: usize = 16;

#[derive(Clone)]
pub(super) struct Thread {
    messages: mpsc::Sender<Message>,
    handle: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Thread {
    pub(super) fn start(name: &str, mut connection: Connection) -> Result<Self> {
        let (messages, mut received) = mpsc::channel(QUEUE);
        let run = move || {
            while let Some(Message::Run(job)) = received.blocking_recv() {
                job(&mut connection);
            }
        };
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let handle = handle.map_err(|_| StoreError::Ended)?;
        Ok(Self { messages, handle: Arc::new(Mutex::new(Some(handle))) })
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| drop(reply.send(job(connection))));
        self.messages.send(Message::Run(job)).await.map_err(|_| StoreError::Ended)?;
        answer.await.map_err(|_| StoreError::Ended)?
    }

    /// Ends the thread after the jobs that wait. The process must not end before: the cryptography's own clean-up at
    /// exit would pull the ground from under a connection that is in use.
    pub(super) async fn close(&self) -> Result<()> {
        self.messages.send(Message::Close).await.map_err(|_| StoreError::Ended)?;
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(handle) = handle else { return Ok(()) };
        let joined = tokio::task::spawn_blocking(move || handle.join()).await;
        joined.ok().and_then(std::result::Result::ok).ok_or(StoreError::Ended)
    }
}
