use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, ResourceExt, api::PostParams, core::ObjectMeta};
use marketrelay_api::labels;
use snafu::{OptionExt, ResultExt, Snafu};
use zeroize::Zeroizing;

use super::{Authority, CaFiles, PkiError, Subject};
use crate::names;

/// Why the operator's own Secrets can't be kept.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeepError {
    #[snafu(display("Secret {name}: {source}"))]
    Api { name: &'static str, source: kube::Error },
    #[snafu(display(
        "Secret {name} lacks tls.crt or tls.key: delete it and restart the operator to get a new one"
    ))]
    Incomplete { name: &'static str },
    #[snafu(display("{source}"), context(false))]
    Pki { source: PkiError },
}

/// The authority in the operator's namespace; whichever replica is first makes it.
pub async fn load_or_create(client: &Client, namespace: &str) -> Result<Authority, KeepError> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let get = || async { api.get_opt(names::CA).await.context(ApiSnafu { name: names::CA }) };
    if let Some(secret) = get().await? {
        return Ok(Authority::load(&files(&secret)?)?);
    }
    let (authority, made) = Authority::generate(Timestamp::now())?;
    let secret = tls_secret(names::CA, &made.certificate, &made.key, None);
    match api.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(authority),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let secret = get().await?.context(IncompleteSnafu { name: names::CA })?;
            Ok(Authority::load(&files(&secret)?)?)
        }
        Err(source) => Err(source).context(ApiSnafu { name: names::CA }),
    }
}

fn files(secret: &Secret) -> Result<CaFiles, KeepError> {
    let entry = |name: &str| {
        let bytes = secret.data.as_ref()?.get(name)?;
        String::from_utf8(bytes.0.clone()).ok()
    };
    let pair = entry("tls.crt").zip(entry("tls.key"));
    let (certificate, key) = pair.context(IncompleteSnafu { name: names::CA })?;
    Ok(CaFiles { certificate, key: Zeroizing::new(key) })
}

/// Keeps a certificate in a Secret of the operator's namespace.
pub async fn keep(
    client: &Client,
    namespace: &str,
    name: &'static str,
    subject: &Subject<'_>,
    authority: &Authority,
    now: Timestamp,
) -> Result<(), KeepError> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let existing = api.get_opt(name).await.context(ApiSnafu { name })?;
    if let Some(secret) = &existing {
        let annotation = |key: &str| secret.annotations().get(key).map(String::as_str);
        let renew = annotation(labels::RENEW_AFTER).and_then(|at| at.parse::<Timestamp>().ok());
        let ours = annotation(labels::ISSUER) == Some(authority.fingerprint());
        if ours && renew.is_some_and(|renew| renew > now) {
            return Ok(());
        }
    }
    let issued = authority.issue(subject, now)?;
    let mut secret = tls_secret(name, &issued.certificate, &issued.key, Some(authority.pem()));
    secret.annotations_mut().insert(labels::RENEW_AFTER.into(), issued.renew_after.to_string());
    secret.annotations_mut().insert(labels::ISSUER.into(), authority.fingerprint().to_owned());
    secret.metadata.resource_version = existing.and_then(|secret| secret.resource_version());
    let kept = if secret.metadata.resource_version.is_some() {
        api.replace(name, &PostParams::default(), &secret).await
    } else {
        api.create(&PostParams::default(), &secret).await
    };
    kept.context(ApiSnafu { name })?;
    Ok(())
}

fn tls_secret(name: &str, certificate: &str, key: &str, authority: Option<&str>) -> Secret {
    let entry = |name: &str, pem: &str| (name.to_owned(), ByteString(pem.as_bytes().to_vec()));
    let authority = authority.map(|pem| entry("ca.crt", pem));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(
                [
                    (labels::NAME, labels::APP),
                    (labels::COMPONENT, labels::PKI),
                    (labels::MANAGED_BY, labels::OPERATOR),
                ]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(
            [entry("tls.crt", certificate), entry("tls.key", key)].into_iter().chain(authority).collect(),
        ),
        ..Secret::default()
    }
}
