//! What S3 answers, as XML. Pure.

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, de::DeserializeOwned};

use super::{StoreError, Version};

pub(super) fn parse<T: DeserializeOwned>(xml: &[u8]) -> Result<T, StoreError> {
    let text = String::from_utf8_lossy(xml);
    quick_xml::de::from_str(&text).map_err(|error| StoreError::Answer { problem: error.to_string() })
}

/// Names come percent-encoded if the store does as it is asked.
pub(super) fn decoder(encoding: Option<&str>) -> fn(String) -> String {
    if encoding == Some("url") {
        |name: String| percent_decode_str(&name.replace('+', " ")).decode_utf8_lossy().into_owned()
    } else {
        |name: String| name
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FoldersPage {
    #[serde(default)]
    pub common_prefixes: Vec<FolderEntry>,
    #[serde(default)]
    pub is_truncated: bool,
    #[serde(default)]
    pub next_continuation_token: String,
    pub encoding_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FolderEntry {
    pub prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VersionsPage {
    #[serde(default)]
    pub version: Vec<VersionEntry>,
    #[serde(default)]
    pub delete_marker: Vec<MarkerEntry>,
    #[serde(default)]
    pub is_truncated: bool,
    #[serde(default)]
    pub next_key_marker: String,
    #[serde(default)]
    pub next_version_id_marker: String,
    pub encoding_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VersionEntry {
    pub key: String,
    pub version_id: String,
    pub is_latest: bool,
    pub size: u64,
    pub last_modified: Timestamp,
}

impl VersionEntry {
    pub(super) fn version(self, decode: fn(String) -> String) -> Version {
        let Self { key, version_id: version, is_latest, size: bytes, last_modified: modified } = self;
        Version { key: decode(key), version, is_latest, is_marker: false, bytes, modified }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MarkerEntry {
    pub key: String,
    pub version_id: String,
    pub is_latest: bool,
    pub last_modified: Timestamp,
}

impl MarkerEntry {
    pub(super) fn version(self, decode: fn(String) -> String) -> Version {
        let Self { key, version_id: version, is_latest, last_modified: modified } = self;
        Version { key: decode(key), version, is_latest, is_marker: true, bytes: 0, modified }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadsPage {
    #[serde(default)]
    pub upload: Vec<UploadEntry>,
    #[serde(default)]
    pub is_truncated: bool,
    #[serde(default)]
    pub next_key_marker: String,
    #[serde(default)]
    pub next_upload_id_marker: String,
    pub encoding_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadEntry {
    pub key: String,
    pub upload_id: String,
    pub initiated: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PartsPage {
    #[serde(default)]
    pub part: Vec<PartEntry>,
    #[serde(default)]
    pub is_truncated: bool,
    #[serde(default)]
    pub next_part_number_marker: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PartEntry {
    pub size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Lock {
    pub rule: Option<LockRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LockRule {
    pub default_retention: Option<DefaultRetention>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DefaultRetention {
    pub days: Option<u32>,
    pub years: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Retention {
    pub retain_until_date: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_delete_markers_are_read_in_whatever_order_they_come() {
        let page: VersionsPage = parse(
            br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Name>b</Name><Prefix>p/</Prefix><KeyMarker/><VersionIdMarker/><MaxKeys>1000</MaxKeys>
              <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
              <NextKeyMarker>p/b%2Bc</NextKeyMarker><NextVersionIdMarker>v3</NextVersionIdMarker>
              <Version><Key>p/a</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest>
                <LastModified>2026-11-29T00:32:50.000Z</LastModified><ETag>"e"</ETag><Size>7</Size>
                <StorageClass>STANDARD</StorageClass></Version>
              <DeleteMarker><Key>p/a</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest>
                <LastModified>2026-11-29T00:33:50Z</LastModified></DeleteMarker>
              <Version><Key>p/b+c%20d</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>
                <LastModified>2026-11-29T00:32:50.000Z</LastModified><Size>8</Size></Version>
              <CommonPrefixes><Prefix>x</Prefix></CommonPrefixes>
            </ListVersionsResult>"#,
        )
        .expect("a page");
        let decode = decoder(page.encoding_type.as_deref());
        let versions: Vec<_> = page.version.into_iter().map(|found| found.version(decode)).collect();
        assert_eq!(versions[0].bytes, 7);
        assert_eq!((versions[1].key.as_str(), versions[1].version.as_str()), ("p/b c d", "null"));
        assert!(page.delete_marker.into_iter().next().expect("a marker").version(decode).is_marker);
        assert_eq!(decode(page.next_key_marker), "p/b+c");
    }

    #[test]
    fn folders_are_read_and_files_beside_them_are_none() {
        let page: FoldersPage = parse(
            br#"<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>p/</Prefix>
              <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
              <NextContinuationToken>t1</NextContinuationToken>
              <Contents><Key>p/readme</Key><Size>7</Size></Contents>
              <CommonPrefixes><Prefix>p/a%2Bb/</Prefix></CommonPrefixes>
              <CommonPrefixes><Prefix>p/c/</Prefix></CommonPrefixes></ListBucketResult>"#,
        )
        .expect("a page");
        let decode = decoder(page.encoding_type.as_deref());
        let folders: Vec<_> = page.common_prefixes.into_iter().map(|folder| decode(folder.prefix)).collect();
        assert_eq!(folders, ["p/a+b/", "p/c/"]);
        assert_eq!((page.is_truncated, page.next_continuation_token.as_str()), (true, "t1"));
    }
}
