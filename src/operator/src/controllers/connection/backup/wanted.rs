//! From the spec, the operator's defaults and the Secrets to what is wanted at each site, or what stands in the way there.
//! Whatever stands in the way of backups doesn't stand in the relay's. Pure.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use marketrelay_api::{
    Duration, OperatorConfig, Reason,
    backup::Site,
    connection::{Backup, S3},
    operator_config::{BackupSettings, S3Defaults},
};
use url::Url;

use crate::{controllers::backup::schedule::Schedule, problem::Problem};

/// What wasn't tested for longer isn't proven.
const RAREST_DRILL: SignedDuration = SignedDuration::from_hours(31 * 24);

/// The backups of a connection that asks for some.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// None are taken.
    pub suspend: bool,
    sites: BTreeMap<Site, Result<Store, Problem>>,
}

/// The backups of one site.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// When, with `H` as it is written.
    pub schedule: String,
    /// The schedule's time zone.
    pub zone: String,
    /// The longest time between two of them.
    pub interval: SignedDuration,
    /// When the newest one is drilled, with `H` as it is written.
    pub drill_schedule: String,
    /// The longest time between two drills.
    pub drill_interval: SignedDuration,
    /// Name of the Secret.
    pub credentials: String,
    /// Where they go.
    pub location: Location,
}

/// A place in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// `None`: AWS, by the region.
    pub endpoint: Option<Url>,
    /// The bucket's name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Before the connection's id.
    pub prefix: Option<String>,
    /// The bucket is in the path instead of in the host name.
    pub path_style: bool,
}

impl Wanted {
    /// Of a site; `None`: it isn't asked for.
    pub fn site(&self, site: Site) -> Option<Result<&Store, &Problem>> {
        self.sites.get(&site).map(Result::as_ref)
    }

    /// Those that are asked for.
    pub fn sites(&self) -> impl Iterator<Item = (Site, Result<&Store, &Problem>)> {
        self.sites.iter().map(|(site, store)| (*site, store.as_ref()))
    }

    /// Those that can be carried out.
    pub fn stores(&self) -> impl Iterator<Item = (Site, &Store)> {
        self.sites.iter().filter_map(|(site, store)| Some((*site, store.as_ref().ok()?)))
    }

    /// Nothing can be carried out.
    pub fn blocked(self, problem: &Problem) -> Self {
        let sites =
            self.sites.into_iter().map(|(site, store)| (site, store.and_then(|_| Err(problem.clone()))));
        Self { sites: sites.collect(), ..self }
    }
}

impl Store {
    /// As messages name it.
    pub fn shown(&self) -> String {
        format!("store {}, credentials in Secret {}", self.location.place(), self.credentials)
    }
}

impl Location {
    /// Where the connection's part is: another prefix is another store.
    pub fn place(&self) -> String {
        let prefix = self.prefix.iter().map(String::as_str);
        [self.key().as_str()].into_iter().chain(prefix).collect::<Vec<_>>().join("/")
    }

    /// What the number of Jobs at the same time is counted by.
    pub fn key(&self) -> String {
        bucket(self.endpoint.as_ref(), &self.region, &self.bucket)
    }
}

/// Where a bucket is; without an endpoint it is AWS's.
pub fn bucket(endpoint: Option<&Url>, region: &str, name: &str) -> String {
    match endpoint {
        Some(endpoint) => format!("{endpoint}{name}"),
        None => format!("https://s3.{region}.amazonaws.com/{name}"),
    }
}

/// What is known of the Secrets that sites name; one that isn't there is absent.
pub type Credentials = BTreeMap<Site, Result<(), Problem>>;

/// `retention`: of backups, as the policy wants it.
pub fn wanted(
    backup: &Backup,
    is_suspended: bool,
    credentials: &Credentials,
    retention: &Duration,
    config: &OperatorConfig,
) -> Wanted {
    let store = |site, s3| {
        let settings = config.backup.as_ref().ok_or_else(not_configured)?;
        let interval = interval(backup, retention)?;
        let drill_interval = drill_interval(backup)?;
        let location = location(site, s3, settings)?;
        has_credentials(site, s3, credentials)?;
        Ok(Store {
            schedule: backup.schedule.clone(),
            zone: backup.time_zone.clone(),
            interval,
            drill_schedule: backup.drill_schedule.clone(),
            drill_interval,
            credentials: s3.credentials_secret_ref.name.clone(),
            location,
        })
    };
    let mut sites: BTreeMap<_, _> = backup.sites().map(|(site, s3)| (site, store(site, s3))).collect();
    if let (Some(Ok(on)), Some(Ok(off))) = (sites.get(&Site::OnSite), sites.get(&Site::OffSite))
        && on.location.key() == off.location.key()
    {
        sites.insert(Site::OffSite, Err(same_bucket(&off.location)));
    }
    Wanted { suspend: is_suspended || backup.suspend, sites }
}

fn invalid(message: String) -> Problem {
    Problem::new(Reason::InvalidSpec, message)
}

fn not_configured() -> Problem {
    invalid(
        "spec.backup: the operator's configuration has no backup.image, so no backups can be taken: let the cluster's \
         administrator set it (the chart does), or remove spec.backup"
            .to_owned(),
    )
}

fn interval(backup: &Backup, retention: &Duration) -> Result<SignedDuration, Problem> {
    let schedule = Schedule::parse(&backup.schedule, &backup.time_zone);
    let interval = schedule.map_err(|error| invalid(format!("spec.backup.{error}")))?.longest_interval();
    if interval < retention.as_signed() {
        return Ok(interval);
    }
    Err(invalid(format!(
        "spec.backup.schedule: up to {interval:#} pass between two backups, and each is kept for {retention} only, so there \
         would be times without one: take them more often, or keep them longer (backupRetention and deleteAfterShipment of \
         the RetentionPolicy)"
    )))
}

fn drill_interval(backup: &Backup) -> Result<SignedDuration, Problem> {
    let schedule = Schedule::parse(&backup.drill_schedule, &backup.time_zone);
    let interval =
        schedule.map_err(|error| invalid(format!("spec.backup.drillSchedule: {error}")))?.longest_interval();
    if interval <= RAREST_DRILL {
        return Ok(interval);
    }
    Err(invalid(format!(
        "spec.backup.drillSchedule: up to {interval:#} pass between two drills: write one with a drill at least once in 31 \
         days, such as 'H H * * H'"
    )))
}

fn location(site: Site, s3: &S3, settings: &BackupSettings) -> Result<Location, Problem> {
    let defaults = settings.site(site);
    let field = |name: &str| format!("spec.backup.{}.s3.{name}", site.field());
    let needed = |own: &Option<String>, default: &Option<String>, name: &str, example: &str| {
        own.clone().or_else(|| default.clone()).ok_or_else(|| {
            invalid(format!(
                "{} is missing, and the operator has no default for it (backup.{}.s3.{name} of the chart): {example}",
                field(name),
                site.field(),
            ))
        })
    };
    let endpoint = endpoint(s3, defaults, &field("endpoint"))?;
    // Only AWS itself can be relied upon to serve a bucket's own host name.
    let own_style = defaults.path_style.filter(|_| s3.endpoint.is_none());
    Ok(Location {
        bucket: needed(&s3.bucket, &defaults.bucket, "bucket", "name the bucket")?,
        region: needed(
            &s3.region,
            &defaults.region,
            "region",
            "name the bucket's region, such as eu-central-1; stores that know no regions take us-east-1",
        )?,
        prefix: s3.prefix.clone().or_else(|| defaults.prefix.clone()),
        path_style: own_style.unwrap_or(endpoint.is_some()),
        endpoint,
    })
}

fn endpoint(s3: &S3, defaults: &S3Defaults, field: &str) -> Result<Option<Url>, Problem> {
    let Some(own) = &s3.endpoint else { return Ok(defaults.endpoint.clone()) };
    let parsed = own.parse().map_err(|error| {
        invalid(format!("{field} can't be used ({error}): write an address such as https://s3.acme.example"))
    });
    parsed.map(Some)
}

fn has_credentials(site: Site, s3: &S3, credentials: &Credentials) -> Result<(), Problem> {
    let name = &s3.credentials_secret_ref.name;
    credentials.get(&site).cloned().unwrap_or_else(|| {
        let message = format!(
            "spec.backup.{}.s3.credentialsSecretRef: there is no Secret {name} in this namespace: create it with the \
             entries accessKeyId, secretAccessKey",
            site.field()
        );
        Err(Problem::new(Reason::SecretNotFound, message))
    })
}

fn same_bucket(location: &Location) -> Problem {
    invalid(format!(
        "spec.backup.offSite.s3: onSite is bucket {} of the same store, and what is lost with it would be lost twice: name \
         another bucket, of another store",
        location.bucket
    ))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const CONFIG: &str = "{relay: {image: r}, backup: {image: b, onSite: {s3: {endpoint: 'https://s3.site.example:9000', \
                          bucket: backups, region: us-east-1, prefix: relays}}, offSite: {s3: {region: eu-central-1}}}}";
    const BOTH: &str = "{onSite: {s3: {credentialsSecretRef: {name: on}}}, \
                        offSite: {s3: {credentialsSecretRef: {name: off}, bucket: acme}}}";

    fn of(backup: &str, config: &str, credentials: &Credentials) -> Wanted {
        let backup: Backup = serde_yaml::from_str(backup).expect(backup);
        let config = OperatorConfig::parse(config).expect("a configuration");
        wanted(&backup, false, credentials, &Duration::days(30), &config)
    }

    fn all() -> Credentials {
        Site::ALL.map(|site| (site, Ok(()))).into()
    }

    /// Both sites, once a day.
    pub fn sample() -> Wanted {
        of(BOTH, CONFIG, &all())
    }

    #[test]
    fn what_a_connection_doesnt_say_is_the_operators_default_for_the_site() {
        let wanted = sample();
        let store = |site| wanted.site(site).expect("asked for").expect("complete").clone();
        let (on, off) = (store(Site::OnSite), store(Site::OffSite));
        assert_eq!(on.interval, SignedDuration::from_hours(24));
        assert_eq!(on.location.key(), "https://s3.site.example:9000/backups");
        assert_eq!((on.location.prefix.as_deref(), on.location.path_style), (Some("relays"), true));
        assert_eq!(off.location.key(), "https://s3.eu-central-1.amazonaws.com/acme");
        assert_eq!((off.location.prefix, off.location.path_style), (None, false));
    }

    #[test]
    fn what_stands_in_the_way_names_the_field_and_the_other_site_goes_on() {
        let missing = || [(Site::OffSite, Ok(()))].into();
        let same = "{onSite: {s3: {credentialsSecretRef: {name: on}}}, offSite: {s3: {credentialsSecretRef: {name: on}, \
                    endpoint: 'https://s3.site.example:9000/', bucket: backups}}}";
        let no_bucket = "{offSite: {s3: {credentialsSecretRef: {name: off}}}}";
        let weekly = BOTH.replacen('{', "{schedule: '0 0 1 * *', ", 1);
        let zone = BOTH.replacen('{', "{timeZone: Mars/Base, ", 1);
        let never = BOTH.replacen('{', "{schedule: '0 0 31 2 *', ", 1);
        let rarely = BOTH.replacen('{', "{drillSchedule: '0 0 1 */2 *', ", 1);
        for (backup, config, credentials, reason, parts) in [
            (
                BOTH,
                CONFIG,
                missing(),
                Reason::SecretNotFound,
                ["spec.backup.onSite.s3.credentialsSecretRef", "Secret on"],
            ),
            (BOTH, "{relay: {image: r}}", all(), Reason::InvalidSpec, ["spec.backup", "backup.image"]),
            (
                no_bucket,
                CONFIG,
                all(),
                Reason::InvalidSpec,
                ["spec.backup.offSite.s3.bucket", "backup.offSite.s3.bucket"],
            ),
            (same, CONFIG, all(), Reason::InvalidSpec, ["spec.backup.offSite.s3", "bucket backups"]),
            (&weekly, CONFIG, all(), Reason::InvalidSpec, ["spec.backup.schedule", "kept for 30d only"]),
            (&zone, CONFIG, all(), Reason::InvalidSpec, ["spec.backup.timeZone", "Mars/Base"]),
            (&never, CONFIG, all(), Reason::InvalidSpec, ["spec.backup.schedule", "no day"]),
            (&rarely, CONFIG, all(), Reason::InvalidSpec, ["spec.backup.drillSchedule", "once in 31 days"]),
        ] {
            let wanted = of(backup, config, &credentials);
            let problems: Vec<_> = wanted.sites().filter_map(|(_, store)| store.err()).collect();
            let problem = problems.first().unwrap_or_else(|| panic!("{backup}: nothing stands in the way"));
            assert_eq!(problem.reason, reason, "{problem:?}");
            assert!(parts.iter().all(|part| problem.message.contains(part)), "{problem:?}");
        }
        let one = of(BOTH, CONFIG, &missing());
        assert!(one.site(Site::OffSite).expect("asked for").is_ok());
    }
}
