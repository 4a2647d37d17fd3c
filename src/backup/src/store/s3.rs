//! The requests of S3 that `object_store` doesn't offer: versions, unfinished uploads, object lock.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use http::{Method, Uri};
use jiff::Timestamp;
use object_store::{
    aws::{AwsAuthorizer, AwsCredential},
    client::{HttpClient, HttpRequest, HttpRequestBody},
};
use url::Url;

use super::{
    StoreError,
    answers::{FoldersPage, Lock, PartsPage, Retention, UploadsPage, VersionsPage, decoder, parse},
};

const DAY: Duration = Duration::from_hours(24);
/// Requests after which a list that doesn't end is given up: a million entries.
const MOST_PAGES: usize = 1000;
/// Where a list of folders goes on.
const CONTINUATION: &str = "continuation-token";

/// A version of an object, or the mark that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object's name in the bucket.
    pub key: String,
    /// `null` in a bucket without versions.
    pub version: String,
    /// Whether it is what a reader of the object gets.
    pub is_latest: bool,
    /// A delete marker: no data.
    pub is_marker: bool,
    /// Bytes.
    pub bytes: u64,
    /// When it was written.
    pub modified: Timestamp,
}

/// An upload that was begun and not completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The name of the object that it would become.
    pub key: String,
    /// The upload's id.
    pub id: String,
    /// When it was begun.
    pub begun: Timestamp,
}

/// Signs requests.
#[derive(Debug)]
pub(super) struct S3 {
    pub http: HttpClient,
    pub credential: AwsCredential,
    pub region: String,
    /// The bucket's URL, without a slash at its end.
    pub bucket: String,
    /// How long a request is tried again.
    pub patience: Duration,
}

impl S3 {
    /// Every folder right under `prefix` in which there is an object that a reader finds, with a slash at its end.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (mut all, mut token) = (Vec::new(), String::new());
        for _ in 0..MOST_PAGES {
            let query = [
                (CONTINUATION, token.as_str()),
                ("delimiter", "/"),
                ("encoding-type", "url"),
                ("list-type", "2"),
                ("prefix", prefix),
            ];
            let page: FoldersPage = parse(&self.send(Method::GET, "", &given(&query)).await?)?;
            let decode = decoder(page.encoding_type.as_deref());
            all.extend(page.common_prefixes.into_iter().map(|folder| decode(folder.prefix)));
            if !page.is_truncated {
                return Ok(all);
            }
            if page.next_continuation_token.is_empty() {
                break;
            }
            token = page.next_continuation_token;
        }
        Err(endless())
    }

    /// Every version and delete marker under `prefix`.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<Version>, StoreError> {
        let mut all = Vec::new();
        let mut marker = Marker::default();
        for _ in 0..MOST_PAGES {
            let query = [
                ("encoding-type", "url"),
                ("key-marker", marker.key.as_str()),
                ("prefix", prefix),
                ("version-id-marker", marker.within.as_str()),
                ("versions", ""),
            ];
            let page: VersionsPage = parse(&self.send(Method::GET, "", &given(&query)).await?)?;
            let decode = decoder(page.encoding_type.as_deref());
            all.extend(page.version.into_iter().map(|found| found.version(decode)));
            all.extend(page.delete_marker.into_iter().map(|found| found.version(decode)));
            if !page.is_truncated {
                return Ok(all);
            }
            marker = marker.next(decode(page.next_key_marker), page.next_version_id_marker)?;
        }
        Err(endless())
    }

    /// Every unfinished upload under `prefix`.
    pub async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        let mut all = Vec::new();
        let mut marker = Marker::default();
        for _ in 0..MOST_PAGES {
            let query = [
                ("encoding-type", "url"),
                ("key-marker", marker.key.as_str()),
                ("prefix", prefix),
                ("upload-id-marker", marker.within.as_str()),
                ("uploads", ""),
            ];
            let page: UploadsPage = parse(&self.send(Method::GET, "", &given(&query)).await?)?;
            let decode = decoder(page.encoding_type.as_deref());
            let uploads = page.upload.into_iter();
            all.extend(uploads.map(|found| Upload {
                key: decode(found.key),
                id: found.upload_id,
                begun: found.initiated,
            }));
            if !page.is_truncated {
                return Ok(all);
            }
            marker = marker.next(decode(page.next_key_marker), page.next_upload_id_marker)?;
        }
        Err(endless())
    }

    /// The bytes that an unfinished upload takes.
    pub async fn upload_bytes(&self, upload: &Upload) -> Result<u64, StoreError> {
        let (mut bytes, mut marker) = (0, String::new());
        for _ in 0..MOST_PAGES {
            let query = [("part-number-marker", marker.as_str()), ("uploadId", upload.id.as_str())];
            let page: PartsPage = parse(&self.send(Method::GET, &upload.key, &given(&query)).await?)?;
            bytes += page.part.iter().map(|part| part.size).sum::<u64>();
            if !page.is_truncated || page.next_part_number_marker == marker {
                return Ok(bytes);
            }
            marker = page.next_part_number_marker;
        }
        Err(endless())
    }

    /// Deletes one version for good, and nothing if it is gone already.
    pub async fn delete(&self, version: &Version) -> Result<(), StoreError> {
        gone(self.send(Method::DELETE, &version.key, &[("versionId", &version.version)]).await)
    }

    /// Gives an unfinished upload up, with its parts.
    pub async fn abort(&self, upload: &Upload) -> Result<(), StoreError> {
        gone(self.send(Method::DELETE, &upload.key, &[("uploadId", &upload.id)]).await)
    }

    /// How long the bucket keeps every new object from being deleted. Credentials that may not ask, and stores that know no
    /// object lock, tell none: then deleting shows it.
    pub async fn lock(&self) -> Result<Option<Duration>, StoreError> {
        let answer = self.send(Method::GET, "", &[("object-lock", "")]).await;
        let answer = match answer {
            Err(
                StoreError::NotFound { .. }
                | StoreError::Refused { .. }
                | StoreError::NotImplemented { .. }
                | StoreError::Answer { .. },
            ) => return Ok(None),
            answer => answer?,
        };
        let lock: Lock = parse(&answer)?;
        let Some(rule) = lock.rule.and_then(|rule| rule.default_retention) else { return Ok(None) };
        let days = rule.days.unwrap_or(0) + rule.years.unwrap_or(0) * 365;
        Ok((days > 0).then_some(DAY * days))
    }

    /// Until when a version can't be deleted: by its own lock, or by the bucket's. Credentials that may not ask, and stores that
    /// know no object lock, tell none.
    pub async fn locked_until(&self, version: &Version) -> Option<Timestamp> {
        let query = [("retention", ""), ("versionId", version.version.as_str())];
        let answer = self.send(Method::GET, &version.key, &query).await.ok();
        let own = answer.and_then(|answer| parse::<Retention>(&answer).ok()?.retain_until_date);
        match own {
            Some(until) => Some(until),
            None => version.modified.checked_add(self.lock().await.ok()??).ok(),
        }
    }

    async fn send(&self, method: Method, key: &str, query: &[(&str, &str)]) -> Result<Bytes, StoreError> {
        let text = if key.is_empty() { self.bucket.clone() } else { format!("{}/{key}", self.bucket) };
        let invalid = |_| StoreError::Invalid { problem: format!("{text} is no URL") };
        let url = Url::parse_with_params(&text, query).map_err(invalid)?;
        let uri: Uri = url.as_str().parse().map_err(|_| StoreError::Invalid { problem: url.to_string() })?;
        let again = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(15))
            .without_max_times()
            .with_total_delay(Some(self.patience));
        (|| self.once(&method, &uri)).retry(again).when(StoreError::is_passing).await
    }

    async fn once(&self, method: &Method, uri: &Uri) -> Result<Bytes, StoreError> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        (*request.method_mut(), *request.uri_mut()) = (method.clone(), uri.clone());
        AwsAuthorizer::new(&self.credential, "s3", &self.region).try_authorize(&mut request, None)?;
        let answer = self.http.execute(request).await?;
        Ok(answer.into_body().bytes().await?)
    }
}

/// Where the next page begins.
#[derive(Debug, Default, PartialEq)]
struct Marker {
    key: String,
    within: String,
}

impl Marker {
    fn next(&self, key: String, within: String) -> Result<Self, StoreError> {
        let next = Self { key, within };
        if next.key.is_empty() || next == *self { Err(endless()) } else { Ok(next) }
    }
}

fn endless() -> StoreError {
    StoreError::Answer { problem: "a list that doesn't end".to_owned() }
}

/// Those parameters that say something; a name without a value says something by being there.
fn given<'a>(query: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let is_marker = |name: &str| name.ends_with("-marker") || name == CONTINUATION;
    let is_given = |(name, value): &(&str, &str)| !value.is_empty() || !is_marker(name);
    query.iter().copied().filter(is_given).collect()
}

fn gone(answer: Result<Bytes, StoreError>) -> Result<(), StoreError> {
    match answer {
        Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_is_asked_for_without_a_token() {
        let asked = given(&[(CONTINUATION, ""), ("prefix", "")]);
        assert_eq!(asked, [("prefix", "")]);
    }

    #[test]
    fn a_list_whose_next_page_is_the_same_one_ends() {
        let first = Marker::default().next("a".to_owned(), "1".to_owned()).expect("a next page");
        assert!(first.next("a".to_owned(), "2".to_owned()).is_ok());
        assert!(first.next("a".to_owned(), "1".to_owned()).is_err());
        assert!(first.next(String::new(), String::new()).is_err());
    }
}
