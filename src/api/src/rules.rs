//! The CEL expressions of the CRDs that several fields share.
//!
//! What a text must look like is a rule with a sentence, not a `pattern`: a pattern's own message shows nothing but the
//! expression, and hides every further mistake. Rules that compute with a text hold for one that isn't well formed, so
//! that a mistake is told once.

use kube::core::{Message, Rule};

use crate::{digest, duration::PATTERN, moment};

/// The name of an object: labels of letters, digits and `-`, separated by dots.
const OBJECT_NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A duration's length in seconds, as a CEL expression. CEL's own `duration()` knows no days.
fn seconds(field: &str) -> String {
    format!(
        "int({field}.substring(0, {field}.size() - 1)) * \
         ({field}.endsWith('d') ? 86400 : {field}.endsWith('h') ? 3600 : {field}.endsWith('m') ? 60 : 1)"
    )
}

fn is_duration(field: &str) -> String {
    format!("{field}.matches('{PATTERN}')")
}

/// Every duration field.
pub fn duration() -> Rule {
    Rule::new(is_duration("self"))
        .message("must be a whole number from 1 to 999999 and d, h, m or s, such as 90d or 36h")
}

/// A duration field of at least `min`.
pub fn at_least(min: i64, message: &str) -> Rule {
    Rule::new(format!("!{} || {} >= {min}", is_duration("self"), seconds("self"))).message(message)
}

/// A duration field of at most `max`.
pub fn at_most(max: i64, message: &str) -> Rule {
    Rule::new(format!("!{} || {} <= {max}", is_duration("self"), seconds("self"))).message(message)
}

/// A policy's duration must be a manageable number of epochs.
pub fn epochs(field: &str, path: &str) -> Rule {
    let well_formed = format!("{} && {}", is_duration(field), is_duration("self.keyEpoch"));
    let (length, epoch) = (seconds(field), seconds("self.keyEpoch"));
    Rule::new(format!("!({well_formed}) || ({length} >= 2 * ({epoch}) && {length} <= 1000 * ({epoch}))"))
        .message(Message::Message(format!(
            "{path} must be between 2 and 1000 times keyEpoch (one key per epoch is kept in a Secret): \
         change keyEpoch or {path}"
        )))
        .field_path(format!(".{path}"))
}

/// The same for a duration that may be absent.
pub fn optional_epochs(field: &str, path: &str) -> Rule {
    let rule = epochs(field, path);
    Rule { rule: format!("!has({field}) || ({})", rule.rule), ..rule }
}

/// No backup outlives the personal data that is in it.
pub fn backup_retention() -> Rule {
    let (backups, data) = ("self.backupRetention", "self.deleteAfterShipment");
    let well_formed = format!("{} && {}", is_duration(backups), is_duration(data));
    let (length, longest) = (seconds(backups), seconds(data));
    Rule::new(format!("!has({backups}) || !({well_formed}) || {length} <= {longest}"))
        .message(
            "backupRetention must be at most deleteAfterShipment, since personal data leaves backups by then: write a \
             shorter one, or leave it out",
        )
        .field_path(".backupRetention")
}

/// A field of a schedule: `H`, `*`, `*/2`, or numbers and ranges with commas between. What the schedule's CronJob and the
/// operator understand in the same way, and no more: no `N/STEP`, no `?`, no Sunday at the end of a range or as 7.
fn schedule_field(value: &str, last: &str) -> String {
    let item = format!("({value})(-({last})(/{STEP})?)?");
    format!("(H|[*](/{STEP})?|{item}(,{item})*)")
}

/// A step of 1 is none.
const STEP: &str = "([2-9]|[1-5][0-9])";
const MONTHS: &str = "0?[1-9]|1[0-2]|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)";
const WEEKDAYS: &str = "[0-6]|(?i:sun|mon|tue|wed|thu|fri|sat)";
const WEEKDAYS_BUT_SUNDAY: &str = "[1-6]|(?i:mon|tue|wed|thu|fri|sat)";

/// What the API server accepts as a schedule.
pub fn schedule_pattern() -> String {
    let same = |value: &str| schedule_field(value, value);
    let (minutes, hours) = (same("[0-5]?[0-9]"), same("[01]?[0-9]|2[0-3]"));
    let (days, months) = (same("0?[1-9]|[12][0-9]|3[01]"), same(MONTHS));
    let weekdays = schedule_field(WEEKDAYS, WEEKDAYS_BUT_SUNDAY);
    format!("^{minutes} {hours} {days} {months} {weekdays}$")
}

/// When backups are taken.
pub fn schedule() -> Rule {
    Rule::new(format!("self.matches('{}')", schedule_pattern())).message(
        "schedule must be five fields with one space between: minute, hour, day of the month, month, day of the week, such \
         as 'H H * * *' (daily, at a time of the connection's own) or '30 1-5/2 * * mon-fri'; @daily, seconds, H/N, H(a-b), \
         '?' and 7 for Sunday aren't understood, the time zone has a field of its own (timeZone)",
    )
}

/// In which a schedule is meant.
pub fn time_zone() -> Rule {
    Rule::new("self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && self.lowerAscii() != 'local'")
        .message("timeZone must be the name of a time zone, such as Europe/Amsterdam or Etc/UTC")
}

/// A field that names an object, of which `what` says what it is.
pub fn object_name(what: &str) -> Rule {
    Rule::new(format!("self.matches('{OBJECT_NAME}')")).message(Message::Message(format!(
        "must be the name of {what}: at most 253 lowercase letters, digits, '-' and '.'"
    )))
}

fn is_moment(field: &str) -> String {
    format!("{field}.matches('{}')", moment::PATTERN)
}

/// Whether a well formed date or time is of a day that there is, by the lengths of the months.
fn is_day(field: &str) -> String {
    let number = |from: u8, to: u8| format!("int({field}.substring({from}, {to}))");
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let leap = format!("({year} % 4 == 0 && ({year} % 100 != 0 || {year} % 400 == 0))");
    format!("{day} <= ({month} == 2 ? ({leap} ? 29 : 28) : {month} in [4, 6, 9, 11] ? 30 : 31)")
}

/// A point in time as a CEL expression.
fn instant(field: &str) -> String {
    format!("timestamp({field}.contains('T') ? {field} : {field} + 'T00:00:00Z')")
}

/// Every date or time.
pub fn moment() -> Rule {
    Rule::new(is_moment("self")).message(
        "must be a date such as 2027-01-31 (its first second in UTC), or a time such as 2027-01-31T12:00:00Z",
    )
}

/// A date or time that there is.
pub fn day_exists() -> Rule {
    Rule::new(format!("!{} || {} && self >= '2000'", is_moment("self"), is_day("self")))
        .message("must be a day of this millennium that exists, such as 2027-01-31")
}

/// A range that isn't empty.
pub fn placed_range() -> Rule {
    let is_known = |field| format!("{} && {}", is_moment(field), is_day(field));
    let well_formed = format!("{} && {}", is_known("self.from"), is_known("self.to"));
    Rule::new(format!("!({well_formed}) || {} < {}", instant("self.from"), instant("self.to")))
        .message("placed.from must be before placed.to, which isn't part of the range any more")
}

/// The name of a hold: it is part of the name of a Secret's entry.
const HOLD_NAME: &str = "^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$";

/// The name of a hold.
pub fn hold_name() -> Rule {
    Rule::new(format!("self.matches('{HOLD_NAME}')"))
        .message("a hold's name must be at most 40 lowercase letters, digits and '-', such as tax-audit-2026")
}

/// A list of holds' names.
pub fn hold_names() -> Rule {
    Rule::new(format!("self.all(name, name.matches('{HOLD_NAME}'))"))
        .message("endHolds must be names of holds, as in holds or in status.holds of the connections")
}

/// Every digest.
pub fn subject_digest() -> Rule {
    Rule::new(format!("self.matches('{}')", digest::PATTERN)).message(
        "must be order: or buyer: and 64 lowercase hex digits; to name an erasure's subject in plain \
         text, put it into a Secret and write subject.secretRef",
    )
}

/// A list of connections' names.
pub fn connection_names() -> Rule {
    Rule::new(format!("self.all(name, name.matches('{OBJECT_NAME}'))")).message(
        "connections must be names of MarketplaceConnections in the same namespace (kubectl get mconn); leave the \
         list empty for all of them",
    )
}

/// The names of the objects that a connection needs are its own with an ending.
pub fn connection_name() -> Rule {
    Rule::new(
        "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    )
    .message(
        "metadata.name must have at most 40 characters, lowercase letters, digits and '-', and begin with a \
         letter: Services and Pods are named after it; choose a shorter or simpler name",
    )
}

/// What a closure destroys is named by its id, which no slip of the hand writes.
pub fn connection_confirmation() -> Rule {
    let known = "has(self.status) && has(self.status.connectionId)";
    let wrong = "'spec.closure.confirm must be the id of this connection, ' + self.status.connectionId + \
                 ': closing destroys its keys, its volume and all stored orders for good; to keep them, delete the \
                 connection without closure'";
    let early =
        "'spec.closure can be set once the connection has its id (status.connectionId): create it without'";
    Rule::new(format!(
        "!has(self.spec.closure) || ({known} && self.spec.closure.confirm == self.status.connectionId)"
    ))
    .message(Message::Expression(format!("{known} ? {wrong} : {early}")))
}

/// A restore takes the place of what the relay has.
pub fn restore_confirmation() -> Rule {
    let known = "has(self.status) && has(self.status.connectionId)";
    let wrong = "'spec.restore.confirm must be the id of this connection, ' + self.status.connectionId + \
                 ': what its database has and the backup has not is lost, but for what the marketplace tells again'";
    let early =
        "'spec.restore can be set once the connection has its id (status.connectionId): create it without'";
    Rule::new(format!(
        "!has(self.spec.restore) || ({known} && self.spec.restore.confirm == self.status.connectionId)"
    ))
    .message(Message::Expression(format!("{known} ? {wrong} : {early}")))
}

/// The same on the record, which is named after the id.
pub fn record_confirmation() -> Rule {
    Rule::new("!has(self.spec.closure) || self.spec.closure.confirm == self.metadata.name").message(
        "spec.closure.confirm must be the record's own name, which is the connection's id: closing destroys its keys, \
         its volume and all stored orders for good",
    )
}

/// A store is given up by an id that the record has. What was accepted stays so, whatever the operator writes afterwards.
pub fn known_stores() -> Rule {
    let before = "has(oldSelf.spec.abandonStores) && id in oldSelf.spec.abandonStores";
    let known =
        "has(self.status) && has(self.status.stores) && self.status.stores.exists(store, store.id == id)";
    Rule::new(format!(
        "!has(self.spec.abandonStores) || self.spec.abandonStores.all(id, ({before}) || ({known}))"
    ))
    .message(
        "spec.abandonStores must name stores by their ids of status.stores: kubectl get connrec NAME -o yaml shows them",
    )
}
