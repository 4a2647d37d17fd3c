//! `cargo xtask cluster` on this machine, as root: interrupted anywhere it can be completed, and `down` leaves nothing.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use marketrelay_api::backup::Site;
use xtask::{
    cluster::{access, left_behind, marked, s3, smoke},
    paths,
    run::wait_for,
};

/// A cluster that is taken down when its test ends, however that ends.
struct Tool(&'static str);

impl Tool {
    fn command(&self, word: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["cluster", word, self.0]);
        command
    }

    fn run(&self, word: &str) -> Output {
        self.command(word).output().expect("xtask")
    }

    fn succeed(&self, word: &str) -> String {
        let out = self.run(word);
        assert!(out.status.success(), "{word} {}: {}", self.0, text(&out));
        text(&out)
    }

    fn dir(&self) -> PathBuf {
        paths::cluster(self.0)
    }

    /// Starts `up` and kills it as soon as `reached` says so.
    fn up_killed_when(&self, what: &str, reached: impl Fn() -> bool) {
        let mut up = self.command("up").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("xtask");
        let start = Instant::now();
        // Without a pause: some moments are short.
        while !reached() && running(&mut up) {
            assert!(start.elapsed() < Duration::from_mins(5), "{what}: not reached");
            std::thread::yield_now();
        }
        assert!(running(&mut up), "`up` ended before it was killed: {what}");
        up.kill().expect("kill");
        up.wait().expect("the end of `up`");
    }

    fn leaves_nothing(&self, when: &str) {
        self.succeed("down");
        let left = left_behind(self.0).expect("a look at the machine");
        assert!(left.is_empty(), "{when}: {left:?}");
    }

    fn pid(&self, name: &str) -> Option<u32> {
        let record = fs::read_to_string(self.dir().join("pids").join(name)).ok()?;
        record.split_once(' ')?.0.parse().ok()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.run("down");
    }
}

fn running(child: &mut Child) -> bool {
    child.try_wait().expect("a child").is_none()
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr].concat()).into_owned()
}

fn is_mounted(path: &Path) -> bool {
    let line = format!(" {} ", path.display());
    fs::read_to_string("/proc/mounts").expect("mounts").contains(&line)
}

#[test]
fn an_up_that_is_killed_anywhere_leaves_nothing_after_down() {
    let tool = Tool("t-kill");
    tool.leaves_nothing("nothing was there");
    let (dir, netns) = (tool.dir(), Path::new("/run/netns/mr-t-kill"));
    let exists = |name: &str| dir.join(name).exists();
    let first_pod = || {
        fs::read_dir(dir.join("run/io.containerd.grpc.v1.cri/sandboxes"))
            .is_ok_and(|mut pods| pods.next().is_some())
    };
    let moments: [(&str, &dyn Fn() -> bool); 10] = [
        ("its folder", &|| dir.exists()),
        ("its index", &|| exists("index")),
        ("its network namespace", &|| netns.exists()),
        ("the file of its encrypted volumes", &|| exists("encrypted.img")),
        ("its encrypted file system", &|| is_mounted(&dir.join("encrypted"))),
        ("the key of its volumes", &|| exists("volumes.key.new")),
        ("etcd", &|| exists("pids/etcd")),
        ("containerd's socket", &|| exists("run/c.sock")),
        ("the kubelet", &|| tool.pid("kubelet").is_some()),
        ("the first pod", &first_pod),
    ];
    for (what, reached) in moments {
        tool.up_killed_when(what, reached);
        tool.leaves_nothing(&format!("killed at: {what}"));
    }
}

#[test]
fn what_is_incomplete_is_completed_by_the_next_up() {
    let tool = Tool("t-again");
    for (what, path) in [
        ("the file system before its key", "encrypted/.fscrypt"),
        ("the control plane", "pids/kube-apiserver"),
        ("the kubelet", "pids/kubelet"),
    ] {
        tool.up_killed_when(what, || tool.dir().join(path).exists());
    }
    let status = tool.run("status");
    assert!(
        !status.status.success() && text(&status).contains("cargo xtask cluster up t-again"),
        "{}",
        text(&status)
    );
    tool.succeed("up");
    assert!(tool.succeed("status").contains("Running"));

    // As after a power cut: all processes gone at once, what they wrote still there.
    let key = fs::read(tool.dir().join("volumes.key")).expect("a key");
    let names = [
        "kubelet",
        "containerd",
        "kube-apiserver",
        "etcd",
        "kube-proxy",
        "kube-scheduler",
        "versitygw-on-site",
        "versitygw-off-site",
    ];
    for pid in names.iter().filter_map(|name| tool.pid(name)) {
        Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill");
    }
    tool.succeed("up");
    let status = tool.succeed("status");
    assert!(status.contains("running") && status.contains("encrypted (default)"), "{status}");
    assert_eq!(fs::read(tool.dir().join("volumes.key")).expect("a key"), key);
    for site in Site::ALL {
        s3("t-again", site).and_then(|s3| s3.make_bucket("backups")).expect("an S3 server over TLS");
    }
    smoke(&access("t-again").expect("access")).expect("pods run, find names and have their volumes");

    tool.succeed("up");
    let list = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["cluster", "list"]).output().expect("xtask");
    assert!(text(&list).contains("t-again"), "{}", text(&list));
    tool.leaves_nothing("up, killed, up, up");
}

#[test]
fn a_control_plane_ends_with_its_command_even_if_that_is_killed() {
    let mut up = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["cluster", "up", "alone", "--control-plane-only"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("xtask");
    let mut lines = BufReader::new(up.stdout.take().expect("output")).lines().map_while(Result::ok);
    let kubeconfig = lines.find_map(|line| line.strip_prefix("export KUBECONFIG=").map(PathBuf::from));
    let dir = kubeconfig.as_ref().and_then(|path| path.parent()).expect("a kubeconfig").to_path_buf();
    assert!(!marked(&dir).is_empty());
    up.kill().expect("kill");
    up.wait().expect("the end of `up`");
    let gone = || marked(&dir).is_empty() && !dir.exists();
    wait_for("end of the control plane", Duration::from_secs(20), gone).expect("nothing is left");
}
