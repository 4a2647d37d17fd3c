//! An S3 server on the host's end of the cluster's veth pair, reachable from its pods and from those of its neighbours.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use snafu::ResultExt;

use super::{name::Cluster, processes::Processes};
use crate::run::{Result, read, write};

/// As its process is recorded.
pub const PROCESS: &str = "versitygw";
const PORT: u16 = 7070;

/// Starts it with random credentials.
pub fn start(cluster: &Cluster, bin: &Path) -> Result<()> {
    let dir = cluster.dir();
    fs::create_dir_all(dir.join("s3")).whatever_context("can't make the S3 server's folder")?;
    let secret = dir.join("s3.secret");
    if fs::read_to_string(&secret).unwrap_or_default().is_empty() {
        write(&secret, random_hex()?)?;
    }
    let settings = format!("ROOT_ACCESS_KEY={}\nROOT_SECRET_KEY={}\n", cluster.name, read(&secret)?);
    write(&dir.join("s3.env"), settings)?;
    let listen = format!("{}:{PORT}", cluster.host_ip());
    let script = format!("set -a; . ./s3.env; exec {}/versitygw --port {listen} posix s3", bin.display());
    Processes::new(&dir, Vec::new()).start(PROCESS, &["sh", "-c", &script])
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 24];
    let random = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    random.whatever_context("can't read random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where it listens and with which credentials.
pub fn describe(cluster: &Cluster) -> Result<String> {
    let secret = read(&cluster.dir().join("s3.secret"))?;
    Ok(format!("http://{}:{PORT}  access key {}  secret key {secret}", cluster.host_ip(), cluster.name))
}
