//! Two S3 servers, on-site and off-site, on the host's end of the cluster's veth pair, over TLS and with versions, reachable from
//! its pods and from those of its neighbours.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use marketrelay_api::backup::Site;
use snafu::{OptionExt, ResultExt, ensure_whatever};

use super::{name::Cluster, pki::Authority, processes::Processes};
use crate::run::{Result, command, read, wait_for, write};

/// versitygw's own.
const REGION: &str = "us-east-1";
const SECONDS_TO_START: u64 = 30;

/// How to use one of the servers.
pub struct S3 {
    /// Its URL; the bucket is in the path.
    pub endpoint: String,
    /// Of its buckets.
    pub region: &'static str,
    /// Of an account that may do everything there.
    pub access_key: String,
    /// The account's other half.
    pub secret_key: String,
    /// PEM file of the authority that its certificate is from.
    pub authority: PathBuf,
}

/// As its process is recorded.
pub fn process(site: Site) -> String {
    format!("versitygw-{site}")
}

fn port(site: Site) -> u16 {
    match site {
        Site::OnSite => 7070,
        Site::OffSite => 7071,
    }
}

/// What they keep, in a cluster's folder.
pub fn dir(cluster: &Path) -> PathBuf {
    cluster.join("s3")
}

/// Starts both with random credentials.
pub fn start(cluster: &Cluster, bin: &Path) -> Result<()> {
    certificate(cluster)?;
    for site in Site::ALL {
        let dir = dir(&cluster.dir());
        for folder in [site.to_string(), format!("{site}.versions")] {
            let made = fs::create_dir_all(dir.join(folder));
            made.whatever_context("can't make an S3 server's folder")?;
        }
        let secret = dir.join(format!("{site}.secret"));
        if fs::read_to_string(&secret).unwrap_or_default().is_empty() {
            write(&secret, random_hex()?)?;
        }
        let settings =
            format!("ROOT_ACCESS_KEY={}\nROOT_SECRET_KEY={}\n", account(cluster, site), read(&secret)?);
        write(&dir.join(format!("{site}.env")), settings)?;
        let listen = format!("{}:{}", cluster.host_ip(), port(site));
        let (bin, dir) = (bin.display(), dir.display());
        // It changes its folder before it reads the others.
        let script = format!(
            "set -a; . {dir}/{site}.env; exec {bin}/versitygw --port {listen} --cert {dir}/server.crt \
             --key {dir}/server.key posix --versioning-dir {dir}/{site}.versions {dir}/{site}"
        );
        Processes::new(&cluster.dir(), Vec::new()).start(&process(site), &["sh", "-c", &script])?;
    }
    Ok(())
}

/// Kept once made, so that whoever trusts it goes on; the key of the authority is kept nowhere.
fn certificate(cluster: &Cluster) -> Result<()> {
    let dir = dir(&cluster.dir());
    if dir.join("ca.crt").exists() {
        return Ok(());
    }
    let authority = Authority::new()?;
    let identity = authority.issue("S3", None, &[cluster.host_ip()])?;
    identity.write(&dir, "server")?;
    write(&dir.join("ca.crt"), authority.pem())
}

fn account(cluster: &Cluster, site: Site) -> String {
    format!("{}-{site}", cluster.name)
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 24];
    let random = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    random.whatever_context("can't read random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where it listens and with which credentials.
pub fn access(cluster: &Cluster, site: Site) -> Result<S3> {
    let dir = dir(&cluster.dir());
    Ok(S3 {
        endpoint: format!("https://{}:{}", cluster.host_ip(), port(site)),
        region: REGION,
        access_key: account(cluster, site),
        secret_key: read(&dir.join(format!("{site}.secret")))?,
        authority: dir.join("ca.crt"),
    })
}

impl S3 {
    /// For a person.
    pub fn describe(&self) -> String {
        let Self { endpoint, access_key, secret_key, authority, .. } = self;
        format!(
            "{endpoint}  access key {access_key}  secret key {secret_key}  authority {}",
            authority.display()
        )
    }

    /// Makes a bucket that keeps versions; one that is there stays as it is.
    pub fn make_bucket(&self, name: &str) -> Result<()> {
        let answers = || self.request("GET", "", "").is_ok();
        wait_for(&format!("S3 at {}", self.endpoint), Duration::from_secs(SECONDS_TO_START), answers)?;
        let made = self.request("PUT", name, "")?;
        // 409: it is there and ours.
        ensure_whatever!(made == "200" || made == "409", "bucket {name} can't be made: HTTP {made}");
        let versions = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        let kept = self.request("PUT", &format!("{name}?versioning="), versions)?;
        ensure_whatever!(kept == "200", "bucket {name} can't be made to keep versions: HTTP {kept}");
        Ok(())
    }

    /// A signed request; gives the status.
    fn request(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut curl = command(&["curl", "--silent", "--show-error", "--config", "-", "--request", method]);
        curl.args(["--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "10"]);
        curl.args(["--aws-sigv4", &format!("aws:amz:{}:s3", self.region), "--data-binary", body]);
        curl.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        curl.arg("--cacert").arg(&self.authority).arg(format!("{}/{path}", self.endpoint));
        // Not among the words that every process of the machine can read.
        let user = format!("user = \"{}:{}\"\n", self.access_key, self.secret_key);
        with_input(&mut curl, &user)
    }
}

fn with_input(command: &mut Command, input: &str) -> Result<String> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.whatever_context("can't run curl")?;
    let stdin = child.stdin.take().whatever_context("curl has no input")?;
    { stdin }.write_all(input.as_bytes()).whatever_context("can't write to curl")?;
    let out = child.wait_with_output().whatever_context("can't wait for curl")?;
    ensure_whatever!(out.status.success(), "curl: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
