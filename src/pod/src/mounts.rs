//! The mounted files: read at the start, and again when the kubelet replaces them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// How often the mounts are looked at; the kubelet itself takes a minute or more.
const INTERVAL: Duration = Duration::from_secs(5);

/// The files of a mounted Secret by name.
pub type Entries = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// What a mount holds, or why it can't be used, for a person.
pub type Mounted<T> = Result<Arc<T>, String>;

/// Where a path of the pod is, below `root` in tests.
pub fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Reads every file of a mount.
pub fn entries(folder: &Path) -> io::Result<Entries> {
    let mut entries = Entries::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Kubernetes keeps its versions of the mount in names that begin so.
        if !name.starts_with("..") {
            let bytes = Zeroizing::new(fs::read(folder.join(&name))?);
            entries.insert(name, bytes);
        }
    }
    Ok(entries)
}

/// The entry as text, without surrounding white space.
pub fn text(entries: &Entries, name: &str) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(entries.get(name)?).ok()?.trim();
    (!text.is_empty()).then(|| Zeroizing::new(text.to_owned()))
}

/// Follows a mount until `stop`. What it holds may be unusable or missing, now and later; the log says so.
pub fn follow<T: Send + Sync + 'static>(
    folder: PathBuf,
    parse: impl Fn(&Entries) -> Result<T, String> + Send + 'static,
    stop: CancellationToken,
) -> watch::Receiver<Mounted<T>> {
    let mut version = version(&folder);
    let load = move |folder: &Path| {
        let loaded = load(folder, &parse);
        if let Err(reason) = &loaded {
            tracing::error!(mount = %folder.display(), reason, "can't be used");
        }
        loaded
    };
    let (sender, receiver) = watch::channel(load(&folder));
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let newest = self::version(&folder);
            if newest != version {
                version = newest;
                tracing::info!(mount = %folder.display(), "replaced");
                drop(sender.send_replace(load(&folder)));
            }
        }
    });
    receiver
}

fn load<T>(folder: &Path, parse: &impl Fn(&Entries) -> Result<T, String>) -> Mounted<T> {
    let entries = entries(folder).map_err(|error| format!("can't read {}: {error}", folder.display()))?;
    parse(&entries).map(Arc::new)
}

/// What changes with the contents: the folder that the kubelet points to, or else the files' times.
fn version(folder: &Path) -> String {
    if let Ok(target) = fs::read_link(folder.join("..data")) {
        return target.to_string_lossy().into_owned();
    }
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut times: Vec<_> = files
        .map(|file| {
            let modified = file.metadata().and_then(|data| data.modified()).ok();
            format!("{} {modified:?}", file.file_name().display())
        })
        .collect();
    times.sort();
    times.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replaced_secret_is_read_without_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = |version: &str, value: &str| {
            let inner = folder.path().join(version);
            fs::create_dir(&inner).expect("a version");
            fs::write(inner.join("key"), value).expect("a file");
            let (new, link) = (folder.path().join("..new"), folder.path().join("..data"));
            std::os::unix::fs::symlink(version, &new).expect("a link");
            fs::rename(new, link).expect("the kubelet's switch");
        };
        mount("..1", "old");
        std::os::unix::fs::symlink("..data/key", folder.path().join("key")).expect("a link");
        let stop = CancellationToken::new();
        let parse = |entries: &Entries| Ok(text(entries, "key").ok_or("no key")?.to_string());
        let mut mounted = follow(folder.path().to_owned(), parse, stop.clone());
        assert_eq!(mounted.borrow().as_deref(), Ok(&"old".to_owned()));
        mount("..2", " new\n");
        let changed = tokio::time::timeout(Duration::from_secs(30), mounted.changed()).await;
        changed.expect("within two intervals").expect("still followed");
        assert_eq!(mounted.borrow().as_deref(), Ok(&"new".to_owned()));
        stop.cancel();
    }

    #[test]
    fn a_missing_mount_is_an_error_for_a_person() {
        let error = load(Path::new("/nowhere"), &|_| Ok(())).expect_err("missing");
        assert!(error.contains("/nowhere"), "{error}");
    }
}
