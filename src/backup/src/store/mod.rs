//! An S3 bucket, and what in it is a connection's.

mod answers;
mod client;
mod error;
mod s3;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use client::Client;
pub use error::{Refusal, StoreError};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use jiff::Timestamp;
use marketrelay_api::backup::{S3Store, paths::ESCROWED};
use marketrelay_keyring::HoldId;
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, RetryConfig, WriteMultipart,
    aws::{AmazonS3, AmazonS3Builder, AwsCredential, Checksum},
    client::{HttpClient, HttpConnector},
    path::Path,
};
pub use s3::{Upload, Version};
use snafu::ensure;
use url::Url;
use zeroize::Zeroizing;

use crate::BackupId;
use error::InvalidSnafu;

/// The folder of a connection's escrowed keys.
pub const ESCROW: &str = "escrow";

/// A part of an upload: S3 takes 10,000 of them at most.
const PART: usize = 8 << 20;
/// The largest manifest. Escrowed keys come from a Secret, which can't be larger either.
const LARGEST_READ: u64 = 1 << 20;

/// The store's credentials.
pub struct Credentials {
    /// `accessKeyId`
    pub access_key_id: Zeroizing<String>,
    /// `secretAccessKey`
    pub secret_access_key: Zeroizing<String>,
    /// `sessionToken`
    pub session_token: Option<Zeroizing<String>>,
}

impl Credentials {
    fn of_aws(&self) -> AwsCredential {
        AwsCredential {
            key_id: self.access_key_id.to_string(),
            secret_key: self.secret_access_key.to_string(),
            token: self.session_token.as_deref().cloned(),
        }
    }
}

/// The folder of the archives of holds, below a connection's prefix.
pub const HOLDS: &str = "holds";

/// The two objects of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The encrypted data.
    Data,
    /// What the backup says of itself; written last.
    Manifest,
}

impl Object {
    /// The last part of its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Manifest => "manifest.json",
        }
    }
}

/// What a read gives.
pub struct Found {
    /// All of it.
    pub bytes: Bytes,
    /// Which version that was, if the store says so.
    pub version: Option<String>,
}

/// The bucket.
#[derive(Clone, Debug)]
pub struct Store {
    builder: AmazonS3Builder,
    objects: AmazonS3,
    s3: Arc<s3::S3>,
    prefix: String,
}

impl Store {
    /// What fails in passing is tried again for as long as `patience`.
    pub fn new(store: &S3Store, credentials: &Credentials, patience: Duration) -> Result<Self, StoreError> {
        check_prefix(&store.prefix)?;
        Self::of(store, credentials, patience)
    }

    fn of(store: &S3Store, credentials: &Credentials, patience: Duration) -> Result<Self, StoreError> {
        let bucket = bucket_url(store)?;
        let unusable =
            |error: snafu::Whatever| StoreError::Invalid { problem: format!("its authorities: {error}") };
        let http = Client::new(&store.ca_certificates).map_err(unusable)?;
        let s3 = s3::S3 {
            http: HttpClient::new(http.clone()),
            credential: credentials.of_aws(),
            region: store.region.clone(),
            bucket: bucket.clone(),
            patience,
        };
        let builder = builder(store, credentials, patience, http, bucket);
        let (objects, prefix) = (builder.clone().build()?, store.prefix.clone());
        Ok(Self { builder, objects, s3: Arc::new(s3), prefix })
    }

    /// The same one, for writing into a bucket with object lock: S3 wants a checksum of everything there. Some stores know none.
    pub fn with_checksums(&self) -> Result<Self, StoreError> {
        let builder = self.builder.clone().with_checksum_algorithm(Checksum::SHA256);
        let objects = builder.clone().build()?;
        Ok(Self { builder, objects, s3: self.s3.clone(), prefix: self.prefix.clone() })
    }

    /// The same one, where the archives of a hold are.
    #[must_use]
    pub fn of_hold(&self, hold: &HoldId) -> Self {
        self.folder(&format!("{HOLDS}/{hold}"))
    }

    /// Everything of the connection is under this and a slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn path(&self, id: &BackupId, object: Object) -> Path {
        Path::from(format!("{}/{id}/{}", self.prefix, object.name()))
    }

    /// Begins an upload of the data.
    pub async fn upload(&self, id: &BackupId) -> Result<WriteMultipart, StoreError> {
        let upload = self.objects.put_multipart(&self.path(id, Object::Data)).await?;
        Ok(WriteMultipart::new_with_chunk_size(upload, PART))
    }

    /// Writes the manifest unless there is one; the same one is none that was there before: an answer may have been lost.
    pub async fn put_manifest(&self, id: &BackupId, manifest: &[u8]) -> Result<(), StoreError> {
        let path = self.path(id, Object::Manifest);
        let put = |mode: PutMode| {
            self.objects.put_opts(&path, Bytes::copy_from_slice(manifest).into(), mode.into())
        };
        let mut put_result = put(PutMode::Create).await.map_err(StoreError::from);
        if matches!(put_result, Err(StoreError::NotImplemented { .. })) {
            // A store without conditional writes: nobody else has this id.
            put_result = put(PutMode::Overwrite).await.map_err(StoreError::from);
        }
        let Err(error) = put_result else { return Ok(()) };
        match self.manifest(id).await {
            Ok(there) if there == manifest => Ok(()),
            _ => Err(error),
        }
    }

    /// Reads the manifest.
    pub async fn manifest(&self, id: &BackupId) -> Result<Bytes, StoreError> {
        Ok(self.whole(&self.path(id, Object::Manifest)).await?.bytes)
    }

    async fn whole(&self, path: &Path) -> Result<Found, StoreError> {
        let found = self.objects.get(path).await?;
        let (bytes, version) = (found.meta.size, found.meta.version.clone());
        if bytes > LARGEST_READ {
            return Err(StoreError::Answer { problem: format!("{path} has {bytes} bytes") });
        }
        Ok(Found { bytes: found.bytes().await?, version })
    }

    /// Writes the escrowed keys, over those that are there.
    pub async fn put_escrowed(&self, sealed: &[u8]) -> Result<(), StoreError> {
        self.objects.put(&self.escrowed(), Bytes::copy_from_slice(sealed).into()).await?;
        Ok(())
    }

    /// Reads the escrowed keys.
    pub async fn read_escrowed(&self) -> Result<Found, StoreError> {
        self.whole(&self.escrowed()).await
    }

    fn escrowed(&self) -> Path {
        Path::from(format!("{}/{ESCROW}/{ESCROWED}", self.prefix))
    }

    /// How many bytes the data has.
    pub async fn data_bytes(&self, id: &BackupId) -> Result<u64, StoreError> {
        Ok(self.objects.head(&self.path(id, Object::Data)).await?.size)
    }

    /// The data; a read that is cut goes on where it was.
    pub async fn data(
        &self,
        id: &BackupId,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let found = self.objects.get(&self.path(id, Object::Data)).await?;
        Ok(found.into_stream().map_err(StoreError::from).boxed())
    }

    /// The same one, for what is in this folder of it alone.
    #[must_use]
    pub fn folder(&self, name: &str) -> Self {
        Self { prefix: format!("{}/{name}", self.prefix), ..self.clone() }
    }

    /// Every version and delete marker of the connection.
    pub async fn versions(&self) -> Result<Vec<Version>, StoreError> {
        self.below(self.s3.versions(&self.all()).await?, |version| &version.key)
    }

    /// Every unfinished upload of the connection.
    pub async fn uploads(&self) -> Result<Vec<Upload>, StoreError> {
        self.below(self.s3.uploads(&self.all()).await?, |upload| &upload.key)
    }

    fn all(&self) -> String {
        format!("{}/", self.prefix)
    }

    /// A store that doesn't understand what it is asked for must not be believed.
    fn below<T>(&self, found: Vec<T>, key: impl Fn(&T) -> &String) -> Result<Vec<T>, StoreError> {
        let all = self.all();
        let stray = found.iter().map(key).find(|key| !key.starts_with(&all));
        if let Some(stray) = stray {
            let problem = format!("it lists {stray:?} when asked for what is under {all:?}");
            return Err(StoreError::Answer { problem });
        }
        Ok(found)
    }

    /// The bytes that an unfinished upload takes.
    pub async fn upload_bytes(&self, upload: &Upload) -> Result<u64, StoreError> {
        self.s3.upload_bytes(upload).await
    }

    /// Deletes one version of what [`Store::versions`] found, for good.
    pub async fn delete(&self, version: &Version) -> Result<(), StoreError> {
        self.s3.delete(version).await
    }

    /// Gives up one of what [`Store::uploads`] found.
    pub async fn abort(&self, upload: &Upload) -> Result<(), StoreError> {
        self.s3.abort(upload).await
    }

    /// Until when the store keeps a version from being deleted, if it says so.
    pub async fn locked_until(&self, version: &Version) -> Option<Timestamp> {
        self.s3.locked_until(version).await
    }

    /// How long the bucket keeps every new object from being deleted, if it says so.
    pub async fn lock(&self) -> Result<Option<Duration>, StoreError> {
        self.s3.lock().await
    }
}

/// The names of the folders right under the prefix of `store`, which may be empty here.
pub async fn folders(
    store: &S3Store,
    credentials: &Credentials,
    patience: Duration,
) -> Result<Vec<String>, StoreError> {
    if !store.prefix.is_empty() {
        check_prefix(&store.prefix)?;
    }
    let prefix = if store.prefix.is_empty() { String::new() } else { format!("{}/", store.prefix) };
    let all = Store::of(store, credentials, patience)?.s3.folders(&prefix).await?;
    let name = |folder: &String| Some(folder.strip_prefix(&prefix)?.strip_suffix('/')?.to_owned());
    let names = all.iter().map(|folder| {
        let problem = || format!("it lists {folder:?} when asked for the folders under {prefix:?}");
        name(folder).ok_or_else(|| StoreError::Answer { problem: problem() })
    });
    names.collect()
}

fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let is_prefix = prefix.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let problem =
        format!("the prefix {prefix:?} must be parts of letters, digits and -._~, with slashes between them");
    ensure!(is_prefix && prefix.bytes().all(is_plain), InvalidSnafu { problem });
    Ok(())
}

fn builder(
    store: &S3Store,
    credentials: &Credentials,
    patience: Duration,
    http: impl HttpConnector,
    bucket: String,
) -> AmazonS3Builder {
    let retry = RetryConfig { max_retries: usize::MAX, retry_timeout: patience, ..RetryConfig::default() };
    let builder = AmazonS3Builder::new()
        .with_http_connector(http)
        .with_retry(retry)
        .with_region(&store.region)
        .with_bucket_name(&store.bucket)
        // The bucket is in the endpoint, whichever style it has.
        .with_endpoint(bucket)
        .with_virtual_hosted_style_request(true)
        .with_access_key_id(credentials.access_key_id.as_str())
        .with_secret_access_key(credentials.secret_access_key.as_str());
    match &credentials.session_token {
        Some(token) => builder.with_token(token.as_str()),
        None => builder,
    }
}

/// Without a slash at its end.
fn bucket_url(store: &S3Store) -> Result<String, StoreError> {
    let invalid = |problem: String| StoreError::Invalid { problem };
    let S3Store { bucket, region, .. } = store;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    ensure!(
        (3..=63).contains(&bucket.len()) && bucket.bytes().all(is_name),
        InvalidSnafu { problem: format!("{bucket:?} is no bucket's name") }
    );
    let aws = || Url::parse(&format!("https://s3.{region}.amazonaws.com"));
    let endpoint = store.endpoint.clone().map_or_else(aws, Ok);
    let mut url = endpoint.map_err(|_| invalid(format!("{region:?} is no region's name")))?;
    ensure!(
        url.scheme() == "https",
        InvalidSnafu { problem: format!("the endpoint {url} doesn't begin with https://") }
    );
    let path = url.path().trim_end_matches('/').to_owned();
    if store.path_style {
        url.set_path(&format!("{path}/{bucket}"));
    } else {
        let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
        url.set_host(Some(&host))
            .map_err(|_| invalid(format!("{host:?} is no host's name: use path style")))?;
        url.set_path(&path);
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut S3Store);

    fn store(endpoint: Option<&str>, path_style: bool) -> S3Store {
        S3Store {
            endpoint: endpoint.map(|url| url.parse().expect("a URL")),
            bucket: "backups".to_owned(),
            region: "eu-central-1".to_owned(),
            prefix: "a/b".to_owned(),
            path_style,
            ca_certificates: String::new(),
        }
    }

    #[test]
    fn the_bucket_is_in_the_path_or_in_the_host_name() {
        for (endpoint, path_style, expected) in [
            (None, false, "https://backups.s3.eu-central-1.amazonaws.com"),
            (None, true, "https://s3.eu-central-1.amazonaws.com/backups"),
            (Some("https://s3.example:9000"), true, "https://s3.example:9000/backups"),
            (Some("https://s3.example:9000/"), false, "https://backups.s3.example:9000"),
            (Some("https://10.0.0.1/s3/"), true, "https://10.0.0.1/s3/backups"),
        ] {
            assert_eq!(bucket_url(&store(endpoint, path_style)).expect("a URL"), expected);
        }
    }

    #[test]
    fn what_can_not_work_is_refused_and_named() {
        let credentials = Credentials {
            access_key_id: Zeroizing::new("a".to_owned()),
            secret_access_key: Zeroizing::new("b".to_owned()),
            session_token: None,
        };
        let good = store(Some("https://s3.example"), true);
        let refusal = |change: Change| {
            let mut store = good.clone();
            change(&mut store);
            let made = Store::new(&store, &credentials, Duration::ZERO);
            made.err().map(|error| (error.reason(), error.to_string()))
        };
        assert_eq!(refusal(|_| ()), None);
        let changes: [(Change, &str); 8] = [
            (|store| store.endpoint = "http://s3.example".parse().ok(), "https://"),
            (|store| store.bucket = "a/b".to_owned(), "bucket"),
            (|store| store.prefix = String::new(), "prefix"),
            (|store| store.prefix = "/a".to_owned(), "prefix"),
            (|store| store.prefix = "a/".to_owned(), "prefix"),
            (|store| store.prefix = "a/../b".to_owned(), "prefix"),
            (|store| store.prefix = "a b".to_owned(), "prefix"),
            (
                |store| {
                    store.ca_certificates =
                        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".to_owned();
                },
                "authorities",
            ),
        ];
        for (change, word) in changes {
            let (reason, message) = refusal(change).expect(word);
            assert_eq!(reason, crate::Reason::StoreInvalid, "{message}");
            assert!(message.contains(word), "{message}");
        }
    }
}
