//! A small file system, which fills up as a real disk does.

use std::{path::PathBuf, process::Command};

/// It is in the place of a folder, as long as this lives.
pub struct Small(PathBuf);

impl Small {
    /// With room for so many KiB.
    pub fn mount(path: PathBuf, kibibytes: u64) -> Self {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size(kibibytes), "tmpfs"]).arg(&path));
        Self(path)
    }

    /// It has another size from now on.
    pub fn resize(&self, kibibytes: u64) {
        let options = format!("remount,{}", size(kibibytes));
        run(Command::new("mount").args(["-o", &options]).arg(&self.0));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a program of a test that panics may have a file open.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

fn size(kibibytes: u64) -> String {
    format!("size={kibibytes}k")
}

fn run(command: &mut Command) {
    let status = command.status().expect("a program");
    assert!(status.success(), "{command:?}: {status}");
}
