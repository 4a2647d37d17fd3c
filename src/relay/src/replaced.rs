//! What restores leave beside the relay's database: the one that it took the place of goes once it is at work, and what a killed
//! restore had begun goes at once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use marketrelay_api::backup::paths::{REPLACED, RESTORED};
use tokio_util::sync::CancellationToken;

use crate::activity::Reporter;

/// Between two looks.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// What SQLite has beside a database, and the database itself.
const BESIDE: [&str; 3] = ["-wal", "-shm", ""];

/// Waits until all of them work, and removes it then.
pub async fn remove_once_at_work(
    data: PathBuf,
    working: [Reporter; 2],
    interval: Duration,
    stop: CancellationToken,
) {
    let path = data.join(REPLACED);
    if !path.exists() {
        return;
    }
    tracing::info!("the database before the restore is kept until this one is at work");
    let works = |reporter: &Reporter| {
        let activity = reporter.get();
        activity.last_success.is_some() && activity.failing_since.is_none()
    };
    while !working.iter().all(works) {
        if stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_none() {
            return;
        }
    }
    match remove(&data) {
        Ok(()) => tracing::info!("the database before the restore is removed"),
        Err(error) => tracing::warn!(%error, "the database before the restore can't be removed"),
    }
}

/// Removes the files of a restore that was begun and not finished; whether there were any.
pub fn remove_unfinished(folder: &Path) -> io::Result<bool> {
    let mut were_any = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(RESTORED) {
            fs::remove_file(entry.path())?;
            were_any = true;
        }
    }
    Ok(were_any)
}

fn remove(folder: &Path) -> io::Result<()> {
    for beside in BESIDE {
        match fs::remove_file(folder.join(format!("{REPLACED}{beside}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn the_database_before_the_restore_stays_until_the_restored_one_collects_and_delivers() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join(REPLACED);
        fs::write(&path, "").expect("written");
        let (collecting, delivering) = (Reporter::new("collecting"), Reporter::new("delivering"));
        let working = [collecting.clone(), delivering.clone()];
        let data = folder.path().to_owned();
        let removing = tokio::spawn(remove_once_at_work(data, working, SHORT, CancellationToken::new()));
        collecting.succeed(Timestamp::now());
        delivering.fail(Timestamp::now(), "DestinationUnreachable", "because".to_owned());
        tokio::time::sleep(SHORT * 20).await;
        assert!(path.exists());
        delivering.succeed(Timestamp::now());
        removing.await.expect("it ends");
        assert!(!path.exists());
    }
}
