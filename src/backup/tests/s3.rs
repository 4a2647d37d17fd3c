//! A real S3 server, versitygw, over TLS, and what a person does there.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Method;
use marketrelay_pod::tls;
use object_store::{
    aws::{AwsAuthorizer, AwsCredential},
    client::{HttpClient, HttpRequest},
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{authority::Authority, waiting::eventually};

pub const ACCESS_KEY: &str = "marketrelay";
pub const SECRET_KEY: &str = "a secret of the tests";
pub const REGION: &str = "us-east-1";
pub const BUCKET: &str = "backups";

/// The server.
pub struct S3 {
    folder: TempDir,
    pub port: u16,
    process: Option<Child>,
    http: HttpClient,
}

/// Whether a bucket keeps versions, and locks them.
#[derive(Clone, Copy, PartialEq)]
pub enum Bucket {
    Plain,
    Versions,
    Lock { days: u32 },
}

impl S3 {
    /// Its data is in this folder.
    pub async fn start(authority: &Authority, folder: TempDir) -> Self {
        for name in ["data", "versions"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let issued = authority.issue(None);
        fs::write(folder.path().join("tls.crt"), issued.certificate).expect("a file");
        fs::write(folder.path().join("tls.key"), issued.key).expect("a file");
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::public(&authority.pem).expect("TLS"))
            .no_proxy()
            .build();
        let http = HttpClient::new(http.expect("a client"));
        let mut s3 = Self { folder, port: 0, process: None, http };
        for _ in 0..5 {
            s3.port = free_port();
            s3.run().await;
            if s3.is_ours().await {
                return s3;
            }
        }
        panic!("no port stays free for long enough");
    }

    /// Whether the port wasn't taken by another test's server after it was free.
    async fn is_ours(&self) -> bool {
        let mut request = HttpRequest::new(Bytes::new().into());
        *request.uri_mut() = self.endpoint().parse().expect("a URI");
        self.http.execute(request).await.is_ok()
    }

    /// Starts it, again if it was killed.
    pub async fn run(&mut self) {
        let at = |name: &str| self.folder.path().join(name);
        let log = File::create(at("log")).expect("a log");
        let program = xtask::cluster::versitygw().expect("versitygw");
        let process = Command::new(program)
            .args(["--port", &format!("127.0.0.1:{}", self.port), "--quiet"])
            .arg("--cert")
            .arg(at("tls.crt"))
            .arg("--key")
            .arg(at("tls.key"))
            .arg("posix")
            .arg("--versioning-dir")
            .args([at("versions"), at("data")])
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.process = Some(process.expect("versitygw"));
        let port = self.port;
        eventually("versitygw listens", || async move {
            TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
        })
        .await;
    }

    /// Where its buckets are.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub async fn kill(&mut self) {
        self.process.take().expect("it runs").kill().await.expect("killed");
    }

    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// A signed request; gives status and body.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> (u16, String) {
        let credential =
            AwsCredential { key_id: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned(), token: None };
        let mut request = HttpRequest::new(Bytes::copy_from_slice(body).into());
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}/{path}", self.endpoint()).parse().expect("a URI");
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        if !body.is_empty() {
            // Of what is put into a bucket with object lock S3 wants a checksum.
            let sum = BASE64_STANDARD.encode(digest(&SHA256, body));
            request.headers_mut().insert("x-amz-checksum-sha256", sum.parse().expect("a value"));
        }
        AwsAuthorizer::new(&credential, "s3", REGION).try_authorize(&mut request, None).expect("signed");
        let answer = self.http.execute(request).await.expect("an answer");
        let (status, body) = (answer.status().as_u16(), answer.into_body().bytes().await.expect("a body"));
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn done(&self, method: Method, path: &str, body: &[u8], headers: &[(&str, &str)]) -> String {
        let (status, text) = self.ask(method, path, body, headers).await;
        assert!((200..300).contains(&status), "{path}: {status} {text}");
        text
    }

    pub async fn make_bucket(&self, kind: Bucket) {
        let lock = [("x-amz-bucket-object-lock-enabled", "true")];
        let headers: &[(&str, &str)] = if matches!(kind, Bucket::Lock { .. }) { &lock } else { &[] };
        self.done(Method::PUT, BUCKET, b"", headers).await;
        match kind {
            Bucket::Plain => {}
            Bucket::Versions => {
                let xml = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
                self.done(Method::PUT, &format!("{BUCKET}?versioning="), xml.as_bytes(), &[]).await;
            }
            Bucket::Lock { days } => {
                let xml = format!(
                    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                     <Mode>COMPLIANCE</Mode><Days>{days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
                );
                self.done(Method::PUT, &format!("{BUCKET}?object-lock="), xml.as_bytes(), &[]).await;
            }
        }
    }

    pub async fn put(&self, key: &str, body: &[u8]) {
        self.done(Method::PUT, &format!("{BUCKET}/{key}"), body, &[]).await;
    }

    /// As a person does: in a bucket with versions it leaves a delete marker.
    pub async fn delete(&self, key: &str) {
        self.done(Method::DELETE, &format!("{BUCKET}/{key}"), b"", &[]).await;
    }

    /// Begins an upload, sends a part of it, and makes it look this old.
    pub async fn leave_upload(&self, key: &str, age: Duration) {
        let begun = self.done(Method::POST, &format!("{BUCKET}/{key}?uploads="), b"", &[]).await;
        let id = begun.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next()).expect("an id");
        let part = format!("{BUCKET}/{key}?partNumber=1&uploadId={id}");
        self.done(Method::PUT, &part, &vec![9; 5 << 20], &[]).await;
        let folders = folders(&self.uploads());
        let folder = folders.iter().find(|path| path.ends_with(id)).expect("the upload's folder");
        let folder = File::open(folder).expect("a folder");
        folder.set_modified(SystemTime::now() - age).expect("an old upload");
    }

    fn uploads(&self) -> PathBuf {
        self.data().join(BUCKET).join(".sgwtmp/multipart")
    }

    /// How many uploads are unfinished, by what is on the disk.
    pub fn unfinished(&self) -> usize {
        let of = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        of(&self.uploads())
            .flat_map(|object| of(&object).collect::<Vec<_>>())
            .filter(|path| path.is_dir())
            .count()
    }

    /// The objects by what is on the disk, and their bytes; one that a delete marker hides is there too.
    pub fn objects(&self) -> BTreeMap<String, PathBuf> {
        let bucket = self.data().join(BUCKET);
        let key = |path: &PathBuf| path.strip_prefix(&bucket).expect("below").display().to_string();
        let files = files(&bucket).into_iter().map(|path| (key(&path), path));
        files.filter(|(key, _)| !key.starts_with(".sgwtmp")).collect()
    }

    /// How many older versions there are, by what is on the disk.
    pub fn older_versions(&self) -> usize {
        files(&self.folder.path().join("versions")).len()
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path());
    let inner = entries.filter(|path| path.is_dir());
    inner.flat_map(|path| [vec![path.clone()], folders(&path)].concat()).collect()
}

fn files(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
